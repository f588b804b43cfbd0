import copy
import os
import sys

import numpy as np
import pytest
import synthetic
from matplotlib.figure import Figure
from matplotlib.image import imread

from mamp_mmaction import layouts
from mamp_mmaction.datasets import toy
from mamp_mmaction.utils import pictures

NTU, COCO = layouts.get_layout('nturgb+d'), layouts.get_layout('coco')
COCO_HEIGHTS = [  # of a standing body, in the order of the joints
    *(1.60, 1.64, 1.64, 1.60, 1.60, 1.4, 1.4, 1.1, 1.1),
    *(0.85, 0.85, 0.9, 0.9, 0.5, 0.5, 0.05, 0.05),
]
NO_FINDINGS = 'Faults: none Warnings: none'


@pytest.fixture(scope='module')
def browse(load_tool):
    return load_tool('data/browse_annotations')


@pytest.fixture(scope='module')
def sound():
    """Six sequences, three classes, two splits; nothing is wrong."""
    _, annotations = toy.make_dataset(2, 1, 2, 12, 20, seed=0)
    annotations = [
        {**a, 'frame_dir': f'S{i:03}', 'label': i % 3}
        for i, a in enumerate([*annotations[:5], annotations[28]])
    ]
    names = [a['frame_dir'] for a in annotations]
    split = dict(xsub_train=names[:4], xsub_val=names[4:])
    classes = ['run', 'rest', 'read']
    return dict(split=split, annotations=annotations, classes=classes)


@pytest.fixture
def data(sound):
    return copy.deepcopy(sound)


@pytest.fixture
def run(browse, tmp_path, capsys):
    def run(data, *options, layout='nturgb+d'):
        path = synthetic.write(tmp_path / 'a.pkl', data)
        named = ['--layout', str(layout)] if layout else []
        browse.main([path, *named, *map(str, options)])
        return ' '.join(capsys.readouterr().out.split())

    return run


# The table


def test_table_counts_what_is_there(run, data):
    for i, sample in enumerate(data['annotations']):
        sample['keypoint'] = sample['keypoint'][:, : 12 + i % 2].clip(-1, 1)
        sample['keypoint'][:, 4] = 0  # absent persons do not widen the range
        sample['keypoint'][0, 3, 2] = (-1.5, 2.25, 0.5)
        sample['total_frames'] = 12 + i % 2
    text = run(data)
    for row in (
        '| all | 6 | 3 | 12 to 13, median 12.5 |',
        '| xsub_train | 4 | 3 | 12 to 13, median 12.5 |',
        '| xsub_val | 2 | 2 | 12 to 13, median 12.5 |',
        'persons 1 in 5, 2 in 1 joints x coordinates 25 x 3 in 6',
        'number type float32 in 6',
        'range of x -1.5 to',
        'to 2.25 range of z 0.5 to 1 ',
        '0 run 2 1 rest 2 2 read 2',
        'Layout: nturgb+d',
    ):
        assert row in text


def put(index, value):
    def change(sample):
        sample['keypoint'][index] = value

    return change


def swap(function):
    def change(sample):
        sample['keypoint'] = function(sample['keypoint'])

    return change


FAULTS = {
    'NaN': (put((0, 0, 3), np.nan), 'numbers in its keypoint that are NaN'),
    'total_frames': (
        lambda sample: sample.update(total_frames=99),
        'has total_frames 99',
    ),
    'label beyond': (
        lambda sample: sample.update(label=3),
        'has label 3, but there are 3 classes',
    ),
    'no label': (lambda sample: sample.pop('label'), "lacks ['label']"),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_sequence_with_a_fault_is_named(run, data, fault):
    change, message = FAULTS[fault]
    change(data['annotations'][2])
    text = run(data)
    found = text[text.index('Faults:') : text.index('Warnings:')]
    assert message in found and found.endswith(': 1 S002 ')
    assert '| all | 5 |' in text  # the others are counted


def test_names_joints_and_forms_are_compared(run, data):
    _, b, c, d, e, _ = data['annotations']
    e['keypoint'] = e['keypoint'][:, :, :17]
    b['frame_dir'] = 'S000'
    c['frame_dir'] = 7
    del d['frame_dir']
    data['annotations'].append('text')
    data['split'].update(odd=None, xsub_val=['S000', 'S004', 'S004', 'gone'])
    text = run(data)
    for part in (
        'other joints x coordinates than most: 1 S004 (17, 3)',
        'name that several annotations bear: 1 S000 (2 times)',
        'in xsub_train, but without annotation: 3 S001, S002, S003',
        'several times in xsub_val: 1 S004 (2 times)',
        'in xsub_val, but without annotation: 1 gone',
        'both in xsub_train and xsub_val: 1 S000',
        'split is no list of names: 1 odd (NoneType)',
        "lacks ['frame_dir']",
        'is a str, expected a dict',
        'in no split: 4 7 (int), annotation 3, S005, annotation 6',
    ):
        assert part in text


def repeat_frames(keypoint):
    return keypoint.repeat(12, axis=0).swapaxes(0, 1)[:13]


WARNINGS = {
    'float16': (
        swap(lambda k: k.astype(np.float16)),
        'coordinates are not float32: 1 S002 (float16)',
    ),
    'empty frames': (
        put((0, slice(3, 7)), 0),
        'frames without a person: 1 S002 (4 of',
    ),
    'absent person': (
        swap(lambda k: np.concatenate([k, 0 * k])),
        'unseen persons: 1 S002 (1 of 2)',
    ),
    'third person': (
        swap(lambda k: k.repeat(3, axis=0)),
        'more than two persons, of whom two are kept: 1 S002 (3)',
    ),
    'zero joints': (
        put((0, slice(3, 5), 7), 0),
        'joints at exactly zero: 1 S002 (2 of',
    ),
    'short': (swap(lambda k: k[:, :9]), 'fewer than 10 frames: 1 S002 (9)'),
    'transposed': (
        swap(lambda k: k[:, :5].swapaxes(0, 1)),
        'the axes may be in another order than (persons, frames, joints, '
        'coordinates): 1 S002',
    ),
}


@pytest.mark.parametrize('warning', WARNINGS)
def test_odd_sequence_is_named(run, data, warning):
    change, message = WARNINGS[warning]
    sample = data['annotations'][2]
    change(sample)
    sample['total_frames'] = sample['keypoint'].shape[1]
    text = run(data)
    assert f'{message}' in text[text.index('Faults: none Warnings:') :]


def test_centred_bodies_are_not_odd(run, data):
    for sample in data['annotations']:
        keypoint = sample['keypoint']
        present = keypoint.any(axis=(2, 3), keepdims=True)
        keypoint -= keypoint[:, :, 1:2] * present
    assert NO_FINDINGS in run(data)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda k: 1000 * k, 'units that cannot be metres: 1 a body measures'),
        (lambda k: k[:, :, ::-1], 'bones too long for the body:'),
        (
            lambda k: (
                k
                + k[:, :, 3:4]
                * (np.arange(25) == 7)[:, None]
                * 0.3
                # a hand that is pulled in and out
                * (np.arange(k.shape[1]) % 2)[:, None, None]
            ),
            'bones that change their length: 3 left_hand-left_wrist (',
        ),
    ],
)
def test_bodies_that_cannot_be(run, data, change, message):
    assert NO_FINDINGS in run(data)
    for sample in data['annotations']:
        sample['keypoint'] = change(sample['keypoint']).astype(np.float32)
    text = run(data)
    assert message in text[text.index('Faults: none Warnings:') :]


def test_classes_are_compared(run, data):
    data['classes'].append('write')
    text = run(data)
    assert '3 write 0' in text
    assert 'Warnings: classes without a sequence: 1 3 write' in text
    data['classes'] = 'run'
    with pytest.raises(SystemExit, match="a.pkl: 'classes' is 'run', expect"):
        run(data)


def test_file_without_splits_or_annotations(run, data):
    text = run(data['annotations'])
    assert '| all | 6 | 3' in text and NO_FINDINGS in text
    assert '| all | 0 | 0 | - |' in run(dict(split={}, annotations=[]))


def test_long_lists_are_cut_unless_asked_for(run, data):
    gone = [f'gone-{i:03}' for i in range(30)]
    data['split']['xsub_val'] = gone
    text = run(data)
    assert 'without annotation: 30 gone-000' in text
    assert 'gone-007 and 22 more (see --all-names)' in text
    assert ', '.join(gone) in run(data, '--all-names')


# Layouts

ANOTHER = """
from mamp_mmaction.layouts import register_layout
names = [f'joint_{i}' for i in range(25)]
joints = [(name, names[max(i - 1, 0)]) for i, name in enumerate(names)]
register_layout('chain', origin='joint_0', joints=joints)
"""


def test_layout_is_not_guessed_where_several_fit(run, data, tmp_path):
    found, told = layouts.find_layout(None, 26)
    assert found.name == 'halpe26' and 'the only known' in told
    for joints, names in (
        (17, 'coco and h36m'),
        (20, 'msr_action3d and kinect_v1 and utd_mhad and nw_ucla'),
        (25, 'nturgb+d and openpose25'),
    ):
        found, told = layouts.find_layout(None, joints)
        assert found is None and told.startswith(f'{names} with {joints}')
    found, told = layouts.find_layout(None, 13)
    assert found is None and 'no known layout with 13 joints' in told

    path = tmp_path / 'chain.py'
    path.write_text(ANOTHER)
    try:
        text = run(data, layout=path)
        assert 'Layout: chain' in text
        assert 'bones too long for the body' in text
        text = run(data, layout=None)
        assert 'openpose25 and chain with 25 joints; --layout says' in text
        assert NO_FINDINGS in text  # nothing is known of bones
        text = run(data)
        assert 'Layout: nturgb+d' in text and NO_FINDINGS in text
    finally:
        layouts.LAYOUTS.pop('chain', None)


@pytest.mark.parametrize(
    ('layout', 'message'),
    [
        ('coco', "has 25 joints, but the layout 'coco' has 17"),
        ('kinect', "layout 'kinect' is unknown"),
        ('none.py', 'none.py'),
        ('empty.py', r'registers 0 layouts \[\], expected one'),
    ],
)
def test_layout_that_does_not_fit(run, data, tmp_path, layout, message):
    (tmp_path / 'empty.py').write_text('')
    with pytest.raises(SystemExit, match=f'error: .*{message}'):
        run(data, layout=layout)


# The picture


def body(layout, channels=3, frames=20):
    """A skeleton (1, T, V, C) of random places that drifts."""
    rng = np.random.default_rng(0)
    shape = (1, frames, layout.num_joints, channels)
    keypoint = 2 + rng.normal(scale=0.3, size=shape)
    keypoint += 0.02 * np.arange(frames)[:, None, None]
    return keypoint.astype(np.float32)


def draw(keypoint, layout):
    """Per person bones (K, 2, 2), joints (P, 2) and both's colours."""
    axes = Figure().subplots()
    pictures.draw_sequence(axes, keypoint, layout)
    lines, points = axes.collections[::2], axes.collections[1::2]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    return (
        [np.array(line.get_segments()).reshape(-1, 2, 2) for line in lines],
        [np.array(point.get_offsets()) for point in points],
        [point.get_facecolors() for point in points],
        labels,
    )


@pytest.mark.parametrize('persons', [1, 3])
def test_bones_are_drawn_where_the_joints_are(persons):
    keypoint = np.concatenate([body(NTU) + i for i in range(persons)])
    lines, points, _, labels = draw(keypoint, NTU)
    frames = [0, 3, 5, 8, 11, 14, 16, 19]
    assert labels == [str(frame) for frame in frames]
    bones = np.array(NTU.inward)
    shown = keypoint[:, frames][..., :2]  # (M, F, V, 2)
    expected = shown[:, :, bones[:, 0]] - shown[:, :, bones[:, 1]]
    lines = np.reshape(lines, (persons, 8, len(bones), 2, 2))
    drawn = lines[..., 0, :] - lines[..., 1, :]
    # One scale for both axes, x to the right and y up.
    scale = drawn[0, 0, 0, 0] / expected[0, 0, 0, 0]
    assert scale > 0
    np.testing.assert_allclose(drawn, scale * expected, atol=1e-5)
    # A moment beside the other, none beyond the row.
    x, y = np.reshape(points, (persons, 8, -1, 2)).transpose(3, 1, 0, 2)
    assert (np.ptp(x, axis=(1, 2)) < 1).all()
    assert y.min() + 1e-9 >= 0 and y.max() <= pictures.ROW_HEIGHT + 1e-9


@pytest.mark.parametrize('layout', [NTU, COCO])
def test_sides_and_persons_differ_in_colour(layout):
    keypoint = np.concatenate([body(layout, frames=1)] * 2)
    _, _, colors, _ = draw(keypoint, layout)
    middle = set(range(layout.num_joints)) - {*layout.left, *layout.right}
    sides = [list(layout.left), list(layout.right), sorted(middle)]
    seen = [
        {tuple(color) for color in person[side]}
        for person in colors
        for side in sides
    ]
    assert [len(same) for same in seen] == [1] * 6
    assert len(set().union(*seen)) == 6


def test_images_are_drawn_the_right_way_up():
    keypoint = np.zeros((1, 2, 17, 3), np.float32)
    keypoint[..., 0] = 100 + np.arange(17)
    keypoint[..., 1] = 480 - 200 * np.array(COCO_HEIGHTS)  # rows count down
    keypoint[..., 2] = 0.9  # confidence
    for shown in (keypoint[..., :2], keypoint):
        heights = draw(shown, COCO)[1][0][:17, 1]
        order = np.argsort(COCO_HEIGHTS, kind='stable')
        assert (np.diff(heights[order]) >= 0).all()
        assert heights[0] > heights[16]


def test_what_is_absent_is_not_drawn():
    num_bones = len(NTU.inward)
    keypoint = np.concatenate([body(NTU, frames=4)] * 2)
    keypoint[1, 2] = 0
    keypoint[:, 3] = 0
    keypoint[0, 0, 1] = 0  # the origin of a centred body
    lines, points, _, labels = draw(keypoint, NTU)
    assert [len(p) for p in points] == [3 * 25, 2 * 25]
    assert [len(p) for p in lines] == [3 * num_bones, 2 * num_bones]
    assert labels == ['0', '1', '2', '3: nobody']

    keypoint[0, 0, 3, 0] = np.nan  # the head, which has one bone
    lines, points, _, _ = draw(keypoint, NTU)
    assert (len(points[0]), len(lines[0])) == (74, 3 * num_bones - 1)

    lines, points, _, _ = draw(body(NTU)[:, :, :13], None)
    assert len(points[0]) == 8 * 13 and not len(lines[0])


def test_samples_are_chosen_far_apart_or_by_name(browse):
    annotations = [
        synthetic.annotation(i, label=i // 3, frames=3) for i in range(30)
    ]
    for i in (0, 1, 27):
        annotations[i]['keypoint'][:] = np.nan
    annotations.append(dict(frame_dir='broken', label=99))
    chosen = browse.choose_samples(annotations, 3)
    assert list(chosen) == ['S002', 'S012', 'S028']
    assert len(browse.choose_samples(annotations, 100)) == 27
    chosen = browse.choose_samples(annotations, ['S003', 'S000'])
    assert list(chosen) == ['S003', 'S000']
    with pytest.raises(ValueError, match=r"named 'broken'.*'S000', 'S001'"):
        browse.choose_samples(annotations, ['S003', 'broken'])
    with pytest.raises(ValueError, match='no annotation that could be drawn'):
        browse.choose_samples(annotations[:2], 3)


def test_picture_shows_the_data_a_row_a_sample(
    run, data, tmp_path, monkeypatch
):
    out = tmp_path / 'pictures' / 'a.png'

    def picture(*names, layout='nturgb+d'):
        run(data, '--picture', out, '--samples', *names, layout=layout)
        assert os.listdir(out.parent) == ['a.png']
        return imread(out)

    first = picture('S000')
    a, b, c, d, _, f = data['annotations']
    a['keypoint'][0, :, 5:8] *= -1
    other = picture('S000')
    assert first.shape == other.shape and (first != other).any()

    a['keypoint'][:] = 0
    b['keypoint'][:] = np.nan
    c['keypoint'][0, 3, 4] = 1e38
    d['keypoint'] = d['keypoint'][:, :1, :1]
    f['frame_dir'] = '$\\frac{name$ of no formula'
    names = 'S000', 'S001', 'S002', 'S003', f['frame_dir']
    more = picture(*names, layout=None)
    assert len(more) > 4 * len(first)
    assert len(np.unique(more.reshape(-1, 4), axis=0)) > 3
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    with pytest.raises(SystemExit, match='needs matplotlib: pip install'):
        run(data, '--picture', 'a.png')
    assert not os.path.exists('a.png')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--samples', '3'], 'for --picture'),
        (['--picture', 'a.jpg'], 'does not end in .png'),
        (['--picture', 'a.png', '--samples', '101'], 'expected 1 to 100'),
        ([], 'error: none.pkl'),
    ],
)
def test_arguments_are_checked(browse, capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        browse.main(['none.pkl', *options])
    assert message in f'{stopped.value.code}{capsys.readouterr().err}'
