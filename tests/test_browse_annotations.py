import os

import numpy as np
import pytest
import synthetic
from matplotlib.image import imread

from mamp_mmaction.layouts import get_layout

NTU, COCO = get_layout('nturgb+d'), get_layout('coco')
COCO_HEIGHTS = [  # of a standing body, in the order of the joints
    *(1.60, 1.64, 1.64, 1.60, 1.60, 1.4, 1.4, 1.1, 1.1),
    *(0.85, 0.85, 0.9, 0.9, 0.5, 0.5, 0.05, 0.05),
]


@pytest.fixture(scope='module')
def browse(load_tool):
    return load_tool('data/browse_annotations')


def content():
    """Six sequences, three classes, two splits; nothing is wrong."""
    annotations = [
        synthetic.annotation(i, persons=1 + (i == 5), frames=10 + i, classes=3)
        for i in range(6)
    ]
    names = [a['frame_dir'] for a in annotations]
    split = dict(xsub_train=names[:4], xsub_val=names[4:])
    classes = ['run', 'rest', 'read']
    return dict(split=split, annotations=annotations, classes=classes)


def run(browse, tmp_path, data, capsys, *options):
    path = synthetic.write(tmp_path / 'a.pkl', data)
    browse.main([path, *map(str, options)])
    return capsys.readouterr().out


def squeezed(text):
    return ' '.join(text.split())


# ---------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------


def test_table_counts_what_is_there(browse, tmp_path, capsys):
    data = content()
    for sample in data['annotations']:
        sample['keypoint'] = sample['keypoint'].clip(-1, 1)
        sample['keypoint'][0, 3, 2] = (-1.5, 2.25, 0)
    text = squeezed(run(browse, tmp_path, data, capsys))
    for row in (
        'all 6 3 10 to 15, median 12.5',
        'xsub_train 4 3 10 to 13, median 11.5',
        'xsub_val 2 2 14 to 15, median 14.5',
        'persons 1 in 5, 2 in 1 of the sequences',
        'joints x coordinates 25 x 3 number',
        'number type float32 range',
        'range of x -1.5 to 1',
        'range of y -1 to 2.25',
        'range of z -1 to 1',
        '0 run 2',
        '1 rest 2',
        '2 read 2',
        'Faults: none',
        'Notes: none',
    ):
        assert row in text


def test_absent_persons_do_not_widen_the_range(browse, tmp_path, capsys):
    data = content()
    for sample in data['annotations']:
        sample['keypoint'] = abs(sample['keypoint']) + 2
        sample['keypoint'][:, 4] = 0
        sample['keypoint'][0, 3, 2] = 2
    text = squeezed(run(browse, tmp_path, data, capsys))
    assert 'range of x 2 to' in text


def set_key(key, value):
    def change(sample):
        sample[key] = value

    return change


def set_values(index, value):
    def change(sample):
        sample['keypoint'][index] = value

    return change


def crop_joints(sample):
    sample['keypoint'] = sample['keypoint'][:, :, :17]


def to_float16(sample):
    sample['keypoint'] = sample['keypoint'].astype(np.float16)


def add_absent_person(sample):
    sample['keypoint'] = np.pad(
        sample['keypoint'], ((0, 1), (0, 0), (0, 0), (0, 0))
    )


SAMPLE_FINDINGS = {
    'NaN': (
        set_values((0, slice(2), 3), np.nan),
        'Faults: coordinates that are NaN or infinite: 1 S002 (6 of 900)',
    ),
    'infinity': (
        set_values((0, 0, 3, 0), np.inf),
        'Faults: coordinates that are NaN or infinite: 1 S002 (1 of 900)',
    ),
    'zeros': (
        set_values(..., 0),
        'Faults: all coordinates are zero: 1 S002',
    ),
    'empty frames': (
        set_values((0, slice(3, 7)), 0),
        'Notes: frames without a person: 1 S002 (4 of 12)',
    ),
    'absent person': (
        add_absent_person,
        'Notes: unseen persons: 1 S002 (1 of 2)',
    ),
    'three dimensions': (
        set_key('keypoint', np.ones((12, 25, 3), np.float32)),
        'Faults: keypoint is not (persons, frames, joints, coordinates): 1 '
        'S002 (12, 25, 3)',
    ),
    'no frames': (
        set_key('keypoint', np.ones((1, 0, 25, 3), np.float32)),
        'Faults: keypoint is not (persons, frames, joints, coordinates): 1 '
        'S002 (1, 0, 25, 3)',
    ),
    'a list': (
        set_key('keypoint', [[1.0]]),
        'Faults: keypoint is no array: 1 S002 (list)',
    ),
    'texts': (
        set_key('keypoint', np.full((1, 12, 25, 3), 'a')),
        'Faults: keypoint holds no numbers: 1 S002 (<U1)',
    ),
    'other joints': (
        crop_joints,
        'Faults: other joints x coordinates than most: 1 S002 (17 x 3)',
    ),
    'float16': (
        to_float16,
        'Notes: coordinates are not float32: 1 S002 (float16)',
    ),
    'total_frames': (
        set_key('total_frames', 99),
        'Faults: total_frames is not the number of frames: 1 '
        'S002 (99, has 12)',
    ),
    'score of another shape': (
        set_key('keypoint_score', np.ones((1, 9, 25))),
        'Faults: keypoint_score is not (persons, frames, joints): 1 '
        'S002 ((1, 9, 25), expected (1, 12, 25))',
    ),
    'broken score': (
        set_key('keypoint_score', np.full((1, 12, 25), np.nan)),
        'Faults: keypoint_score that is NaN or infinite: 1 S002',
    ),
    'label beyond': (
        set_key('label', 3),
        'Faults: label beyond the 3 classes: 1 S002 (3)',
    ),
    'negative label': (
        set_key('label', -1),
        'Faults: label is no integer from 0: 1 S002 (-1)',
    ),
    'label of another type': (
        set_key('label', 'run'),
        "Faults: label is no integer from 0: 1 S002 ('run')",
    ),
    'name twice': (
        set_key('frame_dir', 'S000'),
        'Faults: name that several annotations bear: 1 S000 (2 times) '
        'in xsub_train, but without annotation: 1 S002',
    ),
    'name that is a number': (
        set_key('frame_dir', 7),
        'Faults: in xsub_train, but without annotation: 1 S002 '
        'Notes: in no split: 1 7 (int)',
    ),
}


@pytest.mark.parametrize('finding', SAMPLE_FINDINGS)
def test_sample_is_named(browse, tmp_path, capsys, finding):
    change, expected = SAMPLE_FINDINGS[finding]
    data = content()
    change(data['annotations'][2])
    text = squeezed(run(browse, tmp_path, data, capsys))
    found = text[text.index('Faults:') :]
    if not expected.startswith('Faults:'):
        expected = f'Faults: none {expected}'
    if 'Notes:' not in expected:
        expected = f'{expected} Notes: none'
    assert found == expected


@pytest.mark.parametrize('key', ['label', 'total_frames', 'keypoint'])
def test_missing_key_is_named(browse, tmp_path, capsys, key):
    data = content()
    del data['annotations'][4][key]
    text = squeezed(run(browse, tmp_path, data, capsys))
    assert f'Faults: lacks {key}: 1 S004 Notes: none' in text


def test_annotation_without_name_is_told_by_its_place(
    browse, tmp_path, capsys
):
    data = content()
    del data['annotations'][1]['frame_dir']
    data['annotations'].append('text')
    text = squeezed(run(browse, tmp_path, data, capsys))
    assert 'lacks frame_dir: 1 annotation 1' in text
    assert 'is no dict: 1 annotation 6 (str)' in text
    assert 'in xsub_train, but without annotation: 1 S001' in text


def test_splits_are_compared(browse, tmp_path, capsys):
    data = content()
    data['split'] = dict(
        xsub_train=['S000', 'S001', 'S001', 'gone'],
        xsub_val={'S001', 'S002'},
        odd=None,
    )
    text = squeezed(run(browse, tmp_path, data, capsys))
    assert 'in xsub_train, but without annotation: 1 gone' in text
    assert 'several times in xsub_train: 1 S001 (2 times)' in text
    assert 'split is no list of names: 1 odd (NoneType)' in text
    assert 'both in xsub_train and xsub_val: 1 S001' in text
    assert 'Notes: in no split: 3 S003, S004, S005' in text


def test_classes_are_compared(browse, tmp_path, capsys):
    data = content()
    data['classes'].append('write')
    text = squeezed(run(browse, tmp_path, data, capsys))
    assert '3 write 0' in text
    assert 'Notes: classes without a sequence: 1 3 write' in text
    data['classes'] = 'run'
    text = squeezed(run(browse, tmp_path, data, capsys))
    assert "Faults: 'classes' is no list of names: 1 str" in text


def test_file_without_splits_or_classes(browse, tmp_path, capsys):
    text = run(browse, tmp_path, content()['annotations'], capsys)
    assert 'Faults: none' in text and 'Notes: none' in text
    assert 'all 6 3' in squeezed(text)


def test_file_without_annotations(browse, tmp_path, capsys):
    data = dict(split={}, annotations=[])
    assert 'all 0 0 -' in squeezed(run(browse, tmp_path, data, capsys))


def test_long_lists_are_cut_unless_asked_for(browse, tmp_path, capsys):
    data = content()
    gone = [f'gone-{i:03}' for i in range(30)]
    data['split']['xsub_val'] = gone
    text = squeezed(run(browse, tmp_path, data, capsys))
    assert 'without annotation: 30 gone-000' in text
    assert 'gone-007 and 22 more (see --all-names)' in text
    text = squeezed(run(browse, tmp_path, data, capsys, '--all-names'))
    assert ', '.join(gone) in text


def test_table_fits_a_terminal(browse, tmp_path, capsys):
    long = 'a-long-name-of-a-class-or-of-a-video-' * 3
    data = content()
    data['classes'] = [f'{long[: 25 + i % 50]}{i}' for i in range(120)]
    data['split'][long] = [f'{long[:60]}{i}' for i in range(20)]
    for i, sample in enumerate(data['annotations']):
        sample['keypoint'] = sample['keypoint'].repeat(1 + i, axis=0)
        sample['keypoint'][0, :, :, i % 3] *= 1e30
        if i % 2:
            sample['keypoint'] = sample['keypoint'].astype(np.float64)
    text = run(browse, tmp_path, data, capsys)
    body = text.split('\n', 1)[1]  # below the path, whose length is given
    assert max(map(len, body.splitlines())) <= 80


# ---------------------------------------------------------------------------
# The picture
# ---------------------------------------------------------------------------


def body(layout, channels=3, frames=20):
    """A skeleton (1, T, V, C) that stands upright and leans over time."""
    rng = np.random.default_rng(0)
    shape = (1, frames, layout.num_joints, channels)
    keypoint = 2 + rng.normal(scale=0.3, size=shape)
    keypoint += 0.02 * np.arange(frames)[:, None, None]
    return keypoint.astype(np.float32)


@pytest.mark.parametrize('persons', [1, 3])
def test_bones_are_drawn_where_the_joints_are(browse, persons):
    keypoint = np.concatenate([body(NTU) + i for i in range(persons)])
    strip = browse.make_strip(keypoint, NTU)
    frames = [0, 3, 5, 8, 11, 14, 16, 19]
    assert strip.labels == [str(frame) for frame in frames]
    bones = np.array(NTU.inward)
    shown = keypoint[:, frames][..., :2]  # (M, F, V, 2)
    expected = shown[:, :, bones[:, 0]] - shown[:, :, bones[:, 1]]
    lines = strip.lines.reshape(persons, 8, len(bones), 2, 2)
    drawn = lines[..., 0, :] - lines[..., 1, :]
    # One scale for both axes, x to the right and y up.
    scale = drawn[0, 0, 0, 0] / expected[0, 0, 0, 0]
    assert scale > 0
    np.testing.assert_allclose(drawn, scale * expected, atol=1e-5)
    # A moment beside the other, all on one floor, none beyond the page.
    x, y = strip.points.reshape(persons, 8, -1, 2).transpose(3, 1, 0, 2)
    middles = (x.min(axis=(1, 2)) + x.max(axis=(1, 2))) / 2
    np.testing.assert_allclose(np.diff(middles), browse.MOMENT_WIDTH)
    assert (x[1:].min(axis=(1, 2)) > x[:-1].max(axis=(1, 2))).all()
    assert x.min() > 0 and x.max() < 8 * browse.MOMENT_WIDTH
    assert y.min() == pytest.approx(0)
    assert y.max() == pytest.approx(strip.height)
    assert strip.height <= browse.ROW_HEIGHT + 1e-9


def colors_of_joints(browse, layout, persons=1):
    keypoint = np.concatenate([body(layout, frames=1)] * persons)
    strip = browse.make_strip(keypoint, layout)
    return np.array(strip.point_colors).reshape(persons, layout.num_joints)


@pytest.mark.parametrize('layout', [NTU, COCO])
def test_sides_and_persons_differ_in_colour(browse, layout):
    first, second = colors_of_joints(browse, layout, persons=2)
    middle = set(range(layout.num_joints)) - {*layout.left, *layout.right}
    sides = [list(layout.left), list(layout.right), sorted(middle)]
    seen = [set(person[side]) for person in (first, second) for side in sides]
    assert [len(colors) for colors in seen] == [1] * 6
    assert len(set().union(*seen)) == 6
    assert seen[:2] == [{browse.COLORS[s][0]} for s in ('left', 'right')]


def test_images_are_drawn_the_right_way_up(browse):
    keypoint = np.zeros((1, 2, 17, 3), np.float32)
    keypoint[..., 0] = 100 + np.arange(17)
    keypoint[..., 1] = 480 - 200 * np.array(COCO_HEIGHTS)  # rows count down
    keypoint[..., 2] = 0.9  # confidence
    for shown in (keypoint[..., :2], keypoint):
        heights = browse.make_strip(shown, COCO).points[:17, 1]
        order = np.argsort(COCO_HEIGHTS, kind='stable')
        assert (np.diff(heights[order]) >= 0).all()
        assert heights[0] > heights[16]


def test_what_is_absent_is_not_drawn(browse):
    num_bones = len(NTU.inward)
    keypoint = np.concatenate([body(NTU, frames=4)] * 2)
    keypoint[1, 2] = 0
    keypoint[:, 3] = 0
    keypoint[0, 0, 1] = 0  # the origin of a centred body
    strip = browse.make_strip(keypoint, NTU)
    assert len(strip.points) == 5 * 25
    assert len(strip.lines) == 5 * num_bones
    assert strip.labels == ['0', '1', '2', '3: nobody']

    keypoint[0, 0, 7, 2] = np.nan  # x and y are still good
    keypoint[0, 0, 3, 0] = np.nan
    strip = browse.make_strip(keypoint, NTU)
    assert len(strip.points) == 5 * 25 - 1
    assert len(strip.lines) == 5 * num_bones - 1

    image = body(COCO, channels=2, frames=1)
    image[0, 0, 9] = 0  # a wrist that was not found
    strip = browse.make_strip(image, COCO)
    assert len(strip.points) == 16 and len(strip.lines) == 15


def test_skeleton_of_no_known_layout_is_drawn_as_points(browse):
    keypoint = body(NTU)[:, :, :13]
    layout = browse.layout_of('a', keypoint, None)
    assert layout is None
    strip = browse.make_strip(keypoint, layout)
    assert len(strip.points) == 8 * 13 and not len(strip.lines)


@pytest.mark.parametrize(
    ('joints', 'name'),
    [(25, 'nturgb+d'), (17, 'coco'), (18, 'openpose'), (20, 'msr_action3d')],
)
def test_layout_is_guessed_or_given(browse, joints, name):
    keypoint = np.ones((1, 4, joints, 3))
    assert browse.layout_of('a', keypoint, None) == get_layout(name)
    assert browse.layout_of('a', keypoint, get_layout(name)).name == name
    other = NTU if joints != 25 else COCO
    with pytest.raises(ValueError, match=rf"'a' has {joints} joints.*layout"):
        browse.layout_of('a', keypoint, other)


def test_samples_are_chosen_far_apart_and_drawable(browse):
    annotations = [
        synthetic.annotation(i, label=i // 3, frames=3) for i in range(30)
    ]
    for i in (0, 1, 27):
        annotations[i]['keypoint'][:] = np.nan
    annotations.append(dict(frame_dir='broken', label=99))
    chosen = browse.choose_samples(annotations, 3)
    assert [s['label'] for s in chosen.values()] == [0, 4, 9]
    assert list(chosen) == ['S002', 'S012', 'S028']
    every = browse.choose_samples(annotations, 100)
    assert len(every) == 27 and 'S000' not in every
    with pytest.raises(ValueError, match='no annotation that could be drawn'):
        browse.choose_samples(annotations[:2], 3)


def test_samples_are_chosen_by_name(browse):
    annotations = [synthetic.annotation(i) for i in range(5)] + ['text']
    chosen = browse.choose_samples(annotations, ['S003', 'annotation 5'])
    assert list(chosen) == ['S003', 'annotation 5']
    assert chosen['S003'] is annotations[3]
    with pytest.raises(ValueError, match=r"named 'S9'.*'S000', 'S001'"):
        browse.choose_samples(annotations, ['S003', 'S9'])


def test_title_says_what_is_drawn_or_why_nothing_is(browse):
    def title(sample):
        return browse.plan_row('S1', sample, ['run', 'rest'], None).title

    sample = synthetic.annotation(1, label=1, persons=2, frames=9)
    for part in ('S1', 'class 1 rest', '2 persons, 9 frames', 'nturgb+d'):
        assert part in title(sample)
    assert 'class 7' in title({**sample, 'label': 7})
    assert title('text') == 'S1: has no keypoint'
    assert title(dict(label=1)) == 'S1: has no keypoint'
    flat = {**sample, 'keypoint': sample['keypoint'][0]}
    assert '(9, 25, 3)' in title(flat)
    line = {**sample, 'keypoint': sample['keypoint'][..., :1]}
    assert 'second coordinate' in title(line)


def picture(browse, tmp_path, data, capsys, *options):
    out = tmp_path / 'pictures' / 'a.png'
    run(browse, tmp_path, data, capsys, '--picture', out, *options)
    assert out.read_bytes().startswith(b'\x89PNG\r\n\x1a\n')
    assert os.listdir(out.parent) == ['a.png']
    return imread(out)


def test_picture_shows_the_data(browse, tmp_path, capsys):
    data = content()
    first = picture(browse, tmp_path, data, capsys, '--samples', 'S000')
    again = picture(browse, tmp_path, data, capsys, '--samples', 'S000')
    np.testing.assert_array_equal(first, again)
    data['annotations'][0]['keypoint'][0, :, 5:8] *= -1
    other = picture(browse, tmp_path, data, capsys, '--samples', 'S000')
    assert other.shape[1] == first.shape[1]
    rows = min(len(first), len(other))
    assert (first[-rows:] != other[-rows:]).any()


def test_picture_has_a_row_a_sample(browse, tmp_path, capsys):
    heights = [
        len(picture(browse, tmp_path, content(), capsys, '--samples', count))
        for count in (1, 2, 3)
    ]
    row = heights[1] - heights[0]
    assert row > browse.DPI  # an inch at least
    assert heights[2] > heights[1] + browse.DPI


def test_picture_of_broken_samples(browse, tmp_path, capsys):
    data = content()
    a, b, c, d, e, f = data['annotations']
    a['keypoint'][:] = 0
    b['keypoint'][:] = np.nan
    c['keypoint'] = c['keypoint'][0]
    d['keypoint'][0, 3, 4] = 1e38
    d['keypoint'][0, 4, 4] = -1e38
    e['keypoint'] = e['keypoint'][:, :1, :1]
    f['frame_dir'] = '$\\frac{name$ of no formula'
    names = ['S000', 'S001', 'S002', 'S003', 'S004', f['frame_dir']]
    image = picture(browse, tmp_path, data, capsys, '--samples', *names)
    assert len(np.unique(image.reshape(-1, 4), axis=0)) > 3


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--samples', '3'], 'for --picture'),
        (['--layout', 'coco'], 'for --picture'),
        (['--picture', 'a.jpg'], 'does not end in .png'),
        (['--picture', 'a.png', '--samples', '0'], 'expected 1 to 100'),
        (['--picture', 'a.png', '--samples', '101'], 'expected 1 to 100'),
    ],
)
def test_arguments_are_checked(browse, capsys, options, message):
    with pytest.raises(SystemExit):
        browse.main(['a.pkl', *options])
    assert message in capsys.readouterr().err


def test_unreadable_file_and_wrong_layout(browse, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r'none\.pkl'):
        browse.main([str(tmp_path / 'none.pkl')])
    path = synthetic.write(tmp_path / 'a.pkl', content())
    out = tmp_path / 'a.png'
    with pytest.raises(SystemExit, match='25 joints, but the layout .coco'):
        browse.main([path, '--picture', str(out), '--layout', 'coco'])
    assert not out.exists()
    assert 'Faults: none' in capsys.readouterr().out
