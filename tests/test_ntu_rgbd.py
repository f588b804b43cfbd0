import importlib.util
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from raw_files import write_ntu

from mamp_mmaction.datasets.annotation_file import read_annotations

TRAIN_60, VAL_60 = 'S001C002P001R001A003', 'S003C001P003R002A060'
TRAIN_120, VAL_120 = 'S018C001P045R001A061', 'S031C003P106R002A120'


@pytest.fixture(scope='module')
def ntu(load_tool):
    return load_tool('data/ntu_rgbd')


@pytest.fixture(scope='module')
def toolbox():
    """The toolbox's own converter, a script that its package carries."""
    package = importlib.util.find_spec('mmaction').submodule_search_locations
    path = Path(package[0], '.mim/tools/data/skeleton/gen_ntu_rgbd_raw.py')
    if not path.is_file():
        pytest.skip(f'the toolbox does not carry {path.name}')
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def person(frames=20, seed=0, spread=0.1, height=1.6):
    """A body (T, 25, 3) that stands upright, positions as files hold them."""
    rng = np.random.default_rng(seed)
    joints = rng.normal(scale=spread, size=(frames, 25, 3))
    joints[..., 1] += np.linspace(0, height, 25)
    joints[..., 2] += 3
    return np.array([f'{v:.7g}' for v in joints.ravel()], float).reshape(
        joints.shape
    )


def recording(frames, *tracks):
    """A list a frame of pairs of ID and joints (25, 3), for :func:`write`.

    Args:
        frames (int): Number of frames.
        tracks: Triples of ID, joints (F, 25, 3) and the frames (F,) they are
            seen in, in the order of the bodies of a frame.
    """
    out = [[] for _ in range(frames)]
    for body_id, joints, seen in tracks:
        for t, positions in zip(seen, joints):
            out[t].append((body_id, positions))
    return out


def write(folder, name, frames, newline='\n'):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{name}.skeleton'
    write_ntu(path, frames, newline)
    return path


def convert(ntu, raw, *options, task='ntu60'):
    out = raw.parent / 'out.pkl'
    if '--ignore' not in options:
        options = ('--keep-all', *options)
    workers = () if '--num-workers' in options else ('--num-workers', 1)
    options = map(str, (*options, *workers))
    ntu.main([str(raw), str(out), '--task', task, *options])
    return read_annotations(out)


def convert_one(ntu, tmp_path, frames, *options):
    """Return the keypoint of one file, None where it is left out."""
    write(tmp_path / 'raw', TRAIN_60, frames)
    write(tmp_path / 'raw', VAL_60, recording(1, (1, person(1), [0])))
    content = convert(ntu, tmp_path / 'raw', *options)
    samples = {a['frame_dir']: a['keypoint'] for a in content['annotations']}
    return samples.get(TRAIN_60)


def assert_persons(keypoint, frames, *persons):
    """Compare with pairs of joints (F, 25, 3) and frames (F,), exactly."""
    assert keypoint.dtype == np.float32
    expected = np.zeros((len(persons), frames, 25, 3), np.float32)
    for out, (joints, seen) in zip(expected, persons):
        out[seen] = joints
    np.testing.assert_array_equal(keypoint, expected)


# What the toolbox writes


@pytest.mark.parametrize('newline', ['\n', '\r\n'])
def test_arrays_are_what_the_files_say(ntu, tmp_path, newline):
    raw = tmp_path / 'raw'
    one, two = person(20, seed=1), person(20, seed=2, spread=0.3)
    write(raw, VAL_60, recording(30, (7, one, range(5, 25))), newline)
    both = recording(20, (7, one, range(20)), (8, two, range(20)))
    write(raw, TRAIN_60, both, newline)
    content = convert(ntu, raw)

    first, second = content['annotations']  # those of training come first
    assert (first['frame_dir'], second['frame_dir']) == (TRAIN_60, VAL_60)
    assert (first['label'], second['label']) == (2, 59)
    assert (first['total_frames'], second['total_frames']) == (20, 30)
    # The body that is spread more is person 1.
    assert_persons(first['keypoint'], 20, (two, range(20)), (one, range(20)))
    assert_persons(second['keypoint'], 30, (one, range(5, 25)))
    assert content['split'] == {
        'xsub_train': [TRAIN_60],
        'xsub_val': [VAL_60],
        'xview_train': [TRAIN_60],
        'xview_val': [VAL_60],
    }


def random_recording(seed):
    """Up to six bodies that come and go, frames without any among them."""
    rng = np.random.default_rng(seed)
    frames = int(rng.integers(12, 30))
    tracks = []
    for body in range(rng.integers(1, 7)):
        begin, end = np.sort(rng.integers(0, frames + 1, size=2))
        joints = person(end - begin, seed=100 * seed + body, spread=0.3)
        tracks.append((body, joints, range(begin, end)))
    return recording(frames, *tracks)


@pytest.mark.parametrize('task', ['ntu60', 'ntu120'])
def test_writes_what_the_toolbox_writes(
    ntu, toolbox, tmp_path, monkeypatch, task
):
    raw = tmp_path / 'raw'
    most = ntu.TASKS[task].most
    rng = np.random.default_rng(0)
    names = set()
    while len(names) < 40:
        numbers = rng.integers(1, np.array(list(most.values())) + 1)
        names.add('S{:03}C{:03}P{:03}R{:03}A{:03}'.format(*numbers))
    names = sorted(names)
    for i, name in enumerate(names):
        write(raw, name, random_recording(seed=i))
    ignore = tmp_path / 'ignore.txt'
    ignore.write_text('\n'.join(names[::10]))

    content = convert(ntu, raw, '--ignore', ignore, task=task)
    unsorted = os.listdir
    monkeypatch.setattr(os, 'listdir', lambda path: sorted(unsorted(path)))
    toolbox.gendata(str(raw), str(tmp_path), str(ignore), task)
    theirs = pickle.loads((tmp_path / f'{task}_3d.pkl').read_bytes())

    empty = {
        a['frame_dir'] for a in theirs['annotations'] if not len(a['keypoint'])
    }
    assert len(names) - 4 - len(empty) == len(content['annotations']) > 30
    assert content['split'] == {
        kind: [name for name in samples if name not in empty]
        for kind, samples in theirs['split'].items()
    }
    kept = [a for a in theirs['annotations'] if a['frame_dir'] not in empty]
    for ours, other in zip(content['annotations'], kept):
        assert ours['frame_dir'] == other['frame_dir']
        assert ours['label'] == other['label']
        assert ours['total_frames'] == other['total_frames']
        np.testing.assert_array_equal(
            ours['keypoint'].astype(np.float16), other['keypoint']
        )


def test_splits_are_the_toolboxs(ntu, toolbox):
    for task, split, train, most in (
        ('ntu60', 'xsub', toolbox.training_subjects_60, 40),
        ('ntu60', 'xview', toolbox.training_cameras_60, 3),
        ('ntu120', 'xsub', toolbox.training_subjects_120, 106),
        ('ntu120', 'xset', toolbox.training_setups_120, 32),
    ):
        in_train = ntu.TASKS[task].in_train[split]
        numbers = range(1, most + 1)
        found = [in_train(dict.fromkeys(ntu.KINDS, i)) for i in numbers]
        assert found == [i in train for i in numbers]


# Denoising


def test_denoising_removes_bodies_of_at_most_11_frames(ntu, tmp_path, capsys):
    one, noise = person(30, seed=1), person(11, seed=2, spread=0.3)
    frames = recording(30, (5, noise, range(11)), (6, one, range(30)))
    keypoint = convert_one(ntu, tmp_path, frames, '--denoise')
    assert_persons(keypoint, 30, (one, range(30)))
    assert 'bodies too short      1' in capsys.readouterr().out

    more = person(12, seed=2, spread=0.3)
    frames = recording(30, (5, more, range(12)), (6, one, range(30)))
    keypoint = convert_one(ntu, tmp_path, frames, '--denoise')
    assert_persons(keypoint, 30, (more, range(12)), (one, range(30)))


def test_denoising_removes_wide_bodies(ntu, tmp_path, capsys):
    one, chair = person(20, seed=1), person(20, seed=2, spread=0.3)
    chair[:14] *= (4, 0.25, 1)  # 70 % of the frames
    frames = recording(20, (5, chair, range(20)), (6, one, range(20)))
    keypoint = convert_one(ntu, tmp_path, frames, '--denoise')
    assert_persons(keypoint, 20, (one, range(20)))
    assert 'bodies too wide       1' in capsys.readouterr().out

    chair[13] *= (0.25, 4, 1)  # 65 %; files hold seven digits
    chair = chair.round(4)
    frames = recording(20, (5, chair, range(20)), (6, one, range(20)))
    assert len(convert_one(ntu, tmp_path, frames, '--denoise')) == 2


def test_denoising_keeps_the_only_body(ntu, tmp_path):
    short = (person(8, seed=1) * (4, 0.25, 1)).round(4)
    frames = recording(20, (5, short, range(3, 11)))
    keypoint = convert_one(ntu, tmp_path, frames, '--denoise')
    assert_persons(keypoint, 20, (short, range(3, 11)))


def test_denoising_orders_persons_by_variance_in_plausible_frames(
    ntu, tmp_path
):
    calm, lively = person(30, seed=1), person(30, seed=2, spread=0.2)
    wide = calm.copy()
    wide[::3] = (wide[::3] * (9, 1, 1)).round(4)
    for first in (calm, wide):
        frames = recording(30, (5, first, range(30)), (6, lively, range(30)))
        keypoint = convert_one(ntu, tmp_path, frames, '--denoise')
        assert_persons(keypoint, 30, (lively, range(30)), (first, range(30)))


def test_denoising_joins_bodies_that_follow_one_another(ntu, tmp_path, capsys):
    first = person(20, seed=1, spread=0.3)
    later = person(15, seed=2, spread=0.1)
    other = person(30, seed=3, spread=0.2)
    third = person(40, seed=4, spread=0.05)
    frames = recording(
        40,
        (5, first, range(20)),
        (6, other, range(5, 35)),
        (7, later, range(22, 37)),
        (8, third, range(40)),
    )
    keypoint = convert_one(ntu, tmp_path, frames, '--denoise')
    joined = np.concatenate([first, later])
    seen = [*range(20), *range(22, 37)]
    assert_persons(keypoint, 40, (joined, seen), (other, range(5, 35)))
    assert 'bodies beyond two     1' in capsys.readouterr().out


@pytest.mark.parametrize('begin', [(0, 19), (19, 0)])
def test_bodies_that_meet_in_one_frame_are_two_persons(ntu, tmp_path, begin):
    one, two = person(20, seed=1, spread=0.3), person(20, seed=2)
    seen = [range(b, b + 20) for b in begin]
    frames = recording(39, (5, one, seen[0]), (6, two, seen[1]))
    keypoint = convert_one(ntu, tmp_path, frames, '--denoise')
    assert_persons(keypoint, 39, (one, seen[0]), (two, seen[1]))


def test_denoising_may_leave_nobody(ntu, tmp_path, capsys):
    tracks = [(i, person(5, seed=i), range(i, i + 5)) for i in range(3)]
    frames = recording(20, *tracks)
    assert convert_one(ntu, tmp_path, frames, '--denoise') is None
    captured = capsys.readouterr()
    assert f'no body: {TRAIN_60}' in captured.err
    assert 'left out, no body     1' in captured.out


# What is left out


def set_line(number, text):
    return lambda lines: [*lines[: number - 1], text, *lines[number:]]


def set_field(number, column, text):
    def change(lines):
        fields = lines[number - 1].split()
        fields[column] = text
        return set_line(number, ' '.join(fields))(lines)

    return change


# Each of the three frames has a line for their number and 27 for one body.
BROKEN = {
    'beyond float32': (set_field(40, 1, '1e39'), 'line 40: '),
    'columns': (set_line(5, '1.0 2.0 3.0'), "line 5: '1.0 2.0 3.0'"),
    'body line': (set_line(3, '7 0 1'), "line 3: '7 0 1', expected a line"),
    'bodies': (set_line(2, 'two'), "line 2: 'two', expected the number of b"),
    'too many bodies': (set_line(58, '2'), 'ends after line 85'),
    'joints': (set_line(4, '24'), "line 4: '24', expected 25 joints"),
    'frames': (set_line(1, '3.0'), "line 1: '3.0', expected the number of f"),
    'too few frames': (set_line(1, '2'), "line 58: '1', expected the end"),
    'truncated line': (lambda s: [*s[:-1], s[-1][:30]], 'line 85: '),
}


@pytest.mark.parametrize('fault', BROKEN)
def test_broken_file_is_left_out_or_stops(ntu, tmp_path, capsys, fault):
    change, message = BROKEN[fault]
    raw = tmp_path / 'raw'
    frames = recording(3, (1, person(3), range(3)))
    write(raw, VAL_60, frames)
    path = write(raw, TRAIN_60, frames)
    path.write_text('\n'.join(change(path.read_text().splitlines())))
    content = convert(ntu, raw)
    assert [a['frame_dir'] for a in content['annotations']] == [VAL_60]
    captured = capsys.readouterr()
    assert f'left out, broken: {path}' in captured.err
    assert message in captured.err
    assert 'left out, broken      1' in captured.out

    (tmp_path / 'out.pkl').unlink()
    with pytest.raises(SystemExit) as stop:
        convert(ntu, raw, '--strict')
    assert str(path) in str(stop.value)
    assert message in str(stop.value)
    assert os.listdir(tmp_path) == ['raw']


def test_file_of_another_name_is_left_out_or_stops(ntu, tmp_path, capsys):
    odd = ['S001C001P001R001A121', 'S033C001P001R001A001', 'S001', 'copy']
    for name in (TRAIN_60, *odd):
        write(tmp_path / 'raw', name, recording(1, (1, person(1), [0])))
    content = convert(ntu, tmp_path / 'raw')
    assert [a['frame_dir'] for a in content['annotations']] == [TRAIN_60]
    told = capsys.readouterr().err
    assert all(f"'{name}' names no sequence" in told for name in odd)


def test_60_is_taken_from_a_folder_that_holds_120(ntu, tmp_path, capsys):
    frames = recording(1, (1, person(1), [0]))
    for name in (TRAIN_60, VAL_60, TRAIN_120, VAL_120):
        write(tmp_path / 'raw', name, frames)
    split = convert(ntu, tmp_path / 'raw')['split']
    assert split['xsub_train'] + split['xsub_val'] == [TRAIN_60, VAL_60]
    out = capsys.readouterr().out
    assert '2 files not of ntu60' in out
    assert 'the complete release gives xsub_train 40091' in out
    split = convert(ntu, tmp_path / 'raw', task='ntu120')['split']
    assert split == {
        'xsub_train': [TRAIN_60, TRAIN_120],
        'xsub_val': [VAL_60, VAL_120],
        'xset_train': [TRAIN_120],
        'xset_val': [TRAIN_60, VAL_60, VAL_120],
    }


def test_ignore_list_is_found_or_asked_for(ntu, tmp_path, monkeypatch, capsys):
    raw, out = tmp_path / 'raw', tmp_path / 'out.pkl'
    frames = recording(1, (1, person(1), [0]))
    write(raw, TRAIN_60, frames)
    write(raw, VAL_60, frames)
    monkeypatch.chdir(raw)
    command = [str(raw), str(out), '--task', 'ntu60', '--num-workers', '1']
    name = 'NTU_RGBD_samples_with_missing_skeletons.txt'
    with pytest.raises(SystemExit, match=f'{name} is neither in .*keep-all'):
        ntu.main(command)

    (tmp_path / name).write_text(f'Missing are\n{VAL_60}\nS001C001P001R001')
    ntu.main(command)
    assert '1 files on the ignore list' in capsys.readouterr().out
    content = read_annotations(out)
    assert [a['frame_dir'] for a in content['annotations']] == [TRAIN_60]

    (tmp_path / name).write_text('nothing')
    with pytest.raises(SystemExit, match=f'{name}: names no sequence'):
        ntu.main(command)
