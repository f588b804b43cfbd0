import re
import shutil
import sys

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from processes import ROOT
from raw_files import write_csv

from mamp_mmaction.datasets.annotation_file import read_annotations
from mamp_mmaction.layouts import LAYOUTS, get_layout

# A trunk, and four limbs of twelve joints each.
OWN_LAYOUT = """
from mamp_mmaction.layouts import register_layout

joints = [('trunk', 'trunk')]
for limb in ('left_arm', 'right_arm', 'left_leg', 'right_leg'):
    names = ['trunk', *(f'{limb}_{i}' for i in range(12))]
    joints += zip(names[1:], names[:-1])
register_layout('sensors49', origin='trunk', joints=joints)
"""


@pytest.fixture
def own_layout(tmp_path):
    path = tmp_path / 'my_layout.py'
    path.write_text(OWN_LAYOUT)
    yield str(path)
    LAYOUTS.pop('sensors49', None)


def array(*shape, seed=0):
    values = np.random.default_rng(seed).normal(1, 0.3, size=shape)
    return values.astype(np.float32)


def write_labels(rows, header='file,label'):
    with open('labels.csv', 'w') as file:
        file.write('\n'.join([header, *rows]) + '\n')


@pytest.fixture
def convert(load_tool, tmp_path):
    """Converts the folder ``raw``; returns what was written, by name too."""
    (tmp_path / 'raw').mkdir()

    def convert(*options):
        arguments = ['raw', 'labels.csv', 'out.pkl', '--num-workers=1']
        main = load_tool('data/from_arrays').main
        main([*arguments, *map(str, options)])
        content = read_annotations('out.pkl')
        return content, {a['frame_dir']: a for a in content['annotations']}

    return convert


def test_joints_in_3d(convert, tmp_path):
    one, two = array(9, 20, 3), array(2, 7, 20, 3, seed=1)
    np.save('raw/one.npy', one)
    (tmp_path / 'raw' / 'more').mkdir()
    np.savez('raw/more/two.npz', two.astype(float))
    order = get_layout('nw_ucla').joint_names[::-1]
    write_csv(tmp_path / 'raw' / 'three.csv', one[:, ::-1], order, 'xyz')
    write_labels(
        ['one.npy,wave,val', 'more/two,clap,train', 'three,clap,train'],
        'file,label,fold',
    )
    content, samples = convert('--layout=nw_ucla', '--split-column=fold')
    assert content['classes'] == ['clap', 'wave']
    assert content['split'] == {'train': ['more/two', 'three'], 'val': ['one']}
    for name, label, expected in (
        ('one', 1, one[None]),
        ('more/two', 0, two),
        ('three', 0, one[None]),  # by the names of its columns
    ):
        sample = samples[name]
        assert (sample['label'], sample['total_frames']) == (
            label,
            expected.shape[1],
        )
        np.testing.assert_array_equal(sample['keypoint'], expected)
        assert set(sample) == {
            'frame_dir',
            'label',
            'total_frames',
            'keypoint',
        }


def test_joints_in_2d_with_confidence(convert, tmp_path):
    values = array(6, 17, 3) * (640, 360, 1)
    values = values.astype(np.float32)
    np.save('raw/a.npy', values)
    np.savez(
        'raw/b.npz', keypoint=values[..., :2], keypoint_score=values[..., 2]
    )
    names = get_layout('coco').joint_names
    axes = ('x', 'y', 'score')
    write_csv(tmp_path / 'raw' / 'c.csv', values, names, axes)
    write_labels(['a,0', 'b,2', 'c,2'])
    content, samples = convert('--layout=coco', '--image-size', 1280, 720)
    assert content['classes'] == ['0', '1', '2']
    for name, label in dict(a=0, b=2, c=2).items():
        sample = samples[name]
        assert (sample['label'], sample['img_shape']) == (label, (720, 1280))
        for key, expected in (
            ('keypoint', values[None, ..., :2]),
            ('keypoint_score', values[None, ..., 2]),
        ):
            assert sample[key].dtype == np.float32
            np.testing.assert_array_equal(sample[key], expected)


def test_a_layout_of_ones_own_and_workers(convert, own_layout, capsys):
    made = {f's{i}': array(5 + i, 49, 3, seed=i) for i in range(10)}
    for name, values in made.items():
        np.save(f'raw/{name}.npy', values)
    np.save('raw/s3.npy', np.full((5, 49, 3), np.nan))
    write_labels([f'{name},{"ab"[int(name[1]) % 2]}' for name in made])
    options = (f'--layout={own_layout}', '--num-workers=2', '--val-share=0.4')
    _, samples = convert(*options)
    assert samples.keys() == made.keys() - {'s3'}
    for name, sample in samples.items():
        np.testing.assert_array_equal(sample['keypoint'], made[name][None])
    assert 'left out, broken: raw/s3.npy' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='error: raw/s3.npy.* 735 numbers'):
        convert(*options, '--strict')


def test_labels_among_the_sequences_and_other_files(convert, tmp_path):
    for name in 'ab':
        np.save(f'raw/{name}.npy', array(4, 20, 3))
    (tmp_path / 'raw' / 'notes.txt').touch()
    write_labels(['a,wave', 'b,wave'])
    (tmp_path / 'raw' / 'labels.csv').hardlink_to('labels.csv')
    with pytest.raises(SystemExit, match=r'no label .*raw/labels\.csv'):
        convert('--layout=nw_ucla')
    (tmp_path / 'labels.csv').unlink()
    (tmp_path / 'labels.csv').symlink_to('raw/labels.csv')
    assert list(convert('--layout=nw_ucla')[1]) == ['a', 'b']


def test_the_draw_takes_of_each_class_and_repeats_itself(load_tool):
    draw = load_tool('data/from_arrays').draw_val
    labels = {f's{i}': (i > 19) + (i > 29) + (i > 30) for i in range(33)}
    for seed in range(5):
        drawn = draw(labels, 0.25, seed)
        counts = [sum(labels[name] == k for name in drawn) for k in range(4)]
        assert counts == [5, 2, 0, 1]  # of 20, 10, 1 and 2
        backwards = dict(reversed(labels.items()))
        assert draw(backwards, 0.25, seed) == drawn
    assert drawn != draw(labels, 0.25, 0)


def test_persons_and_frames_of_a_csv(convert, tmp_path):
    names, values = get_layout('nw_ucla').joint_names, array(5, 20, 3)
    extra = dict(person=list('babab'), frame=[30, 30, 10, 10, 20])
    path = tmp_path / 'raw' / 'two.csv'
    write_csv(path, values, names, 'xyz', extra)
    lines = path.read_text().splitlines()
    cells = lines[1].split(',')
    lines[1] = ','.join([*cells[:2], '', '', '', *cells[5:]])
    path.write_text('\n'.join(lines))
    np.save('raw/one.npy', values)
    write_labels(['one,0', 'two,0'])
    _, samples = convert('--layout=nw_ucla')
    expected = np.zeros((2, 3, 20, 3), np.float32)
    expected[0, [2, 0, 1]] = values[[0, 2, 4]]
    expected[1, [2, 0]] = values[[1, 3]]
    expected[0, 2, 0] = 0  # the empty cells
    np.testing.assert_array_equal(samples['two']['keypoint'], expected)

    write_csv(path, values[:4], names, 'xyz', dict(person=list('abab')))
    _, samples = convert('--layout=nw_ucla')
    np.testing.assert_array_equal(
        samples['two']['keypoint'],
        values[:4].reshape(2, 2, 20, 3).swapaxes(0, 1),
    )


@pytest.mark.parametrize(
    ('rows', 'options', 'message'),
    [
        (['a,x'], (), r'no label for 1 files, the first is .raw/b\.npy'),
        (['a,x', 'b,y', 'c,y'], (), "no file for 1 rows, the first is 'c'"),
        (['a,x', 'b,y', 'a,x'], (), "line 4: file 'a' comes twice"),
        (['a,x', 'b,y', 'a.npy,x'], (), r'names raw/a\.npy twice'),
        (['a,x', 'b,'], (), 'line 3: file or label is empty'),
        (['a,x', 'b,y,z'], (), 'line 3: has 3 columns, the header has 2'),
        (['a,1', 'b,99999'], (), 'label 99999 is too large'),
        (['a,0.0', 'b,1.0'], (), "a has the label '0.0': expected names"),
        (['a,1', 'b,-1'], (), "b has the label '-1': expected names"),
        (['a,wave', 'b,1'], (), "b has the label '1': expected names"),
        ([], (), 'labels.csv: has no rows'),
        (None, ('--split-column=fold',), "'fold'; its columns are file, lab"),
        (None, ('--split-column=label',), "'x', expected 'train' or 'val'"),
        (['a,val', 'b,val'], ('--split-column=label',), 'all files into one'),
        (['a,x', 'b,y'], (), 'labels.csv: no class has two files'),
        (None, ('--layout=unseen',), "layout 'unseen' is unknown"),
        (None, ('--layout=no.py',), 'no.py'),
        (None, ('--channels=xy',), '--channels: xy is in 2D: give --image'),
        (None, ('--layout=mediapipe',), 'if they are x, y and a score, give'),
        (None, ('--layout=h36m', '--strict'), r"20 .* layout 'h36m' has 17"),
        (
            None,
            ('--channels=xyz+score', '--strict'),
            'has 3 numbers a joint, expected 4',
        ),
    ],
)
def test_wrong_labels_and_options(convert, rows, options, message):
    for name in 'ab':
        np.save(f'raw/{name}.npy', array(4, 20, 3))
    write_labels(['a,x', 'b,x'] if rows is None else rows)
    with pytest.raises(SystemExit, match=f'error: .*{message}'):
        convert('--layout=nw_ucla', *options)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ((), r'raw/a.npz: xy\+score is in 2D: give --image-size'),
        (
            ('--channels=xyz', '--strict'),
            r'has 2 numbers a joint and a keypoint_score, expected 3 \(xyz\)',
        ),
    ],
)
def test_a_score_is_no_third_coordinate(convert, options, message):
    values = array(4, 20, 3)
    for name in 'ab':
        np.savez(
            f'raw/{name}.npz',
            keypoint=values[..., :2],
            keypoint_score=values[..., 2],
        )
    write_labels(['a,x', 'b,x'])
    with pytest.raises(SystemExit, match=message):
        convert('--layout=nw_ucla', *options)
    _, samples = convert('--layout=nw_ucla', '--image-size', '8', '6')
    np.testing.assert_array_equal(samples['a']['keypoint'][0], values[..., :2])


def test_rows_of_no_frame(convert, tmp_path, capsys):
    names, values = get_layout('nw_ucla').joint_names, array(4, 20, 3)
    path = tmp_path / 'raw' / 'a.csv'
    write_csv(path, values, names, 'xyz')
    lines = path.read_text().splitlines()
    blank = ',' * lines[0].count(',')
    path.write_text('\n'.join([lines[0], blank, '', ' ' + blank, *lines[1:]]))
    copy = shutil.copy(path, 'raw/b.csv')
    write_labels(['a,x', 'b,x'])
    _, samples = convert('--layout=nw_ucla')
    np.testing.assert_array_equal(
        samples['a']['keypoint'][0], [np.zeros((20, 3))] * 2 + [*values]
    )
    write_csv(path, values, names, 'xyz', dict(frame=[2, 'nan', 1, 0]))
    shutil.copy(path, copy)
    with pytest.raises(SystemExit, match='no usable sequence'):
        convert('--layout=nw_ucla')
    assert 'a.csv, line 3: frame is nan' in capsys.readouterr().err


def change_csv(before, after):
    def change(path):
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after, 1))

    return change


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            change_csv('head_x', 'haed_x'),
            r"layout 'kinect_v1' with xyz lacks 1 \('head_x' first\) and "
            r"knows no 1 \('haed_x' first\)",
        ),
        (change_csv('head_x', 'head_y'), "has the column 'head_y' twice"),
        (change_csv('\n1', '\none'), 'line 2: could not convert string'),
        (change_csv('\n1,', '\n,'), "line 2: of joint 'hip_center' some"),
        (change_csv('\n1', '\n1,1'), 'line 2: has 61 columns'),
        (lambda path: path.write_bytes(b'\xff\xfe'), 'is no CSV file'),
        (lambda path: path.write_text(''), 'has no rows'),
        (lambda path: path.rename('raw/b.npy'), 'no array that could be'),
        (
            lambda path: np.savez('raw/b', a=1, b=2) or path.unlink(),
            r"holds the arrays \['a', 'b'\], expected one",
        ),
        (
            lambda path: np.save('raw/b', np.ones((20, 3))) or path.unlink(),
            r'float64 has the shape \(20, 3\), expected',
        ),
        (
            lambda path: np.save('raw/b', [{}]) or path.unlink(),
            'no array that could be read .*allow_pickle',
        ),
    ],
)
def test_broken_file_is_named_and_left_out(
    convert, tmp_path, capsys, change, message
):
    np.save('raw/a.npy', array(4, 20, 3))
    path = tmp_path / 'raw' / 'b.csv'
    names = get_layout('nw_ucla').joint_names
    write_csv(path, np.ones((4, 20, 3)), names, 'xyz')
    change(path)
    write_labels(['a,x', 'b,x'])
    _, samples = convert('--layout=nw_ucla')
    assert list(samples) == ['a']
    assert re.search(f'broken: raw/b.*{message}', capsys.readouterr().err)


# The guide

GUIDE = (ROOT / 'docs' / 'own_data.md').read_text(encoding='utf-8')
FLAT = {"'my_body'": "'coco'", "'xyz'": "'xy+score'"}


def train(name, load_from=None):
    """Train a config for an epoch of a few steps, the model made small."""
    cfg = Config.fromfile(f'{name}.py')
    cfg.model.backbone.update(embed_dims=32, depth=1, num_heads=2)
    if 'neck' in cfg.model:
        cfg.model.neck.update(decoder_embed_dims=32, depth=1)
    else:
        cfg.model.cls_head.in_channels = 32
    for part in ('train', 'val'):
        loader = cfg[f'{part}_dataloader']
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler.warmup = 0
    cfg.update(load_from=load_from, work_dir=name, log_level='ERROR')
    cfg.experiment_name = f'guide_{name}_{id(cfg)}'
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.mark.parametrize('joints', [13, 49, 17])
def test_the_guide(convert, load_tool, tmp_path, monkeypatch, joints):
    """13 as printed; 49 of another layout; 17 in 2D with confidence."""
    blocks = re.findall(r'```python\n# (my_\w+\.py)\n(.*?)```', GUIDE, re.S)
    changes = {13: {}, 49: {"'my_body'": "'sensors49'"}, 17: FLAT}[joints]
    for name, text in blocks:
        for before, after in changes.items() if name == 'my_data.py' else ():
            assert before in text
            text = text.replace(before, after)
        if name == 'my_layout.py' and joints == 49:
            text = OWN_LAYOUT
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    data = re.search(r"ann_file='(.*)'", dict(blocks)['my_data.py']).group(1)
    (tmp_path / 'data').mkdir()
    # The classes of my_data.py are five.
    scale = (640, 360, 1) if joints == 17 else (1, 1, 1)
    for i in range(20):
        np.save(f'raw/s{i}.npy', array(20, joints, 3, seed=i) * scale)
    write_labels(
        [
            f's{i},{"abcde"[i % 5]},{"val" if i > 14 else "train"}'
            for i in range(20)
        ],
        'file,label,split',
    )
    options = ['--split-column=split', '--layout=my_layout.py']
    if joints == 17:  # a layout of the table
        options[1:] = ['--layout=coco', '--image-size', 1280, 720]
    try:
        convert(*options)
        (tmp_path / 'out.pkl').rename(data)
        train('my_pretrain')
        runner = train('my_finetune', 'my_pretrain/epoch_1.pth')
        answer = ['raw/s19.npy', '--config=my_finetune/my_finetune.py']
        answer += ['--checkpoint=my_finetune/epoch_1.pth', '--out=answer.csv']
        load_tool('demo').main([*answer, *map(str, options[2:])])
    finally:
        sys.modules.pop('my_layout', None)
        for name in ('my_body', 'sensors49'):
            LAYOUTS.pop(name, None)
    assert runner.model.backbone.num_joints == joints
    assert runner.model.backbone.in_channels == 3
    assert (tmp_path / 'answer.csv').read_text().count('\n') == 2
