import os

import numpy as np
import pytest

from mamp_mmaction.datasets.annotation_file import read_annotations


@pytest.fixture(scope='module')
def msr(load_tool):
    return load_tool('data/msr_action3d')


def recording(frames=15, seed=0):
    """Numbers (T, 20, 4) as the release writes them, six decimals."""
    rng = np.random.default_rng(seed)
    values = rng.normal(2.5, 0.5, size=(frames, 20, 4))
    values[..., 3] = rng.random((frames, 20))
    return values.round(6)


def write(folder, name, values):
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(
        folder / f'{name}_skeleton3D.txt', values.reshape(-1, 4), fmt='%.6f'
    )


def convert(msr, raw, *options):
    out = raw.parent / 'out.pkl'
    msr.main([str(raw), str(out), *map(str, options)])
    return read_annotations(out)


def by_name(content):
    return {a['frame_dir']: a for a in content['annotations']}


def test_arrays_are_what_the_files_say(msr, tmp_path):
    raw = {
        'a01_s01_e01': recording(15, seed=1),
        'a07_s02_e02': recording(40, seed=2),
        'a20_s10_e03': recording(33, seed=3),
    }
    for name, values in raw.items():
        write(tmp_path / 'raw', name, values)
    content = convert(msr, tmp_path / 'raw')
    samples = by_name(content)
    assert samples.keys() == raw.keys()
    for name, values in raw.items():
        keypoint = samples[name]['keypoint']
        assert keypoint.dtype == np.float32
        expected = values[None, ..., :3].astype(np.float32)
        np.testing.assert_array_equal(keypoint, expected)
        assert samples[name]['total_frames'] == len(values)
        assert samples[name]['label'] == int(name[1:3]) - 1
    assert content['split'] == {
        'xsub_train': ['a01_s01_e01'],
        'xsub_val': ['a07_s02_e02', 'a20_s10_e03'],
    }
    assert content['classes'][6] == 'draw X'
    assert len(content['classes']) == 20


def test_frames_without_tracking_are_dropped_whatever_their_confidence(
    msr, tmp_path
):
    values = recording(20)
    values[[0, 5, 6, 19], :, :3] = 0
    values[9, 3:, :3] = 0  # still a frame: three joints are tracked
    write(tmp_path / 'raw', 'a01_s01_e01', values)
    lost = recording(4)
    lost[..., :3] = 0
    write(tmp_path / 'raw', 'a02_s01_e01', lost)
    samples = by_name(convert(msr, tmp_path / 'raw'))
    assert list(samples) == ['a01_s01_e01']
    kept = np.delete(values, [0, 5, 6, 19], axis=0)[None, ..., :3]
    np.testing.assert_array_equal(
        samples['a01_s01_e01']['keypoint'], kept.astype(np.float32)
    )


def test_sequences_without_a_tracked_frame_are_named(msr, tmp_path, capsys):
    write(tmp_path / 'raw', 'a01_s01_e01', recording())
    write(tmp_path / 'raw', 'a13_s09_e02', np.zeros((3, 20, 4)))
    convert(msr, tmp_path / 'raw')
    captured = capsys.readouterr()
    assert 'no frame tracked: a13_s09_e02' in captured.err
    assert '1 without a tracked frame' in captured.out


def test_list_selects_sequences_from_the_releases_folder(msr, tmp_path):
    for name in ('a01_s01_e01', 'a01_s02_e01', 'a01_s03_e01'):
        folder = tmp_path / 'raw' / 'real_world_coordinates'
        write(folder, name, recording())
    wanted = tmp_path / 'raw' / 'sequences.txt'
    wanted.write_text('a01_s03_e01\na01_s02_e01\n')
    content = convert(msr, tmp_path / 'raw', '--sequences', wanted)
    assert content['split'] == {
        'xsub_train': ['a01_s03_e01'],
        'xsub_val': ['a01_s02_e01'],
    }
    wanted.write_text('a01_s03_e01\na09_s02_e01\n')
    with pytest.raises(SystemExit, match=r"1 are not in.*'a09_s02_e01'"):
        convert(msr, tmp_path / 'raw', '--sequences', wanted)


def set_line(number, text):
    def change(lines):
        lines[number - 1] = text
        return lines

    return change


BROKEN = {
    'no number': (set_line(25, '1.0 x 2.0 1.0'), "line 25: '1.0 x 2.0 1.0'"),
    'three columns': (set_line(3, '1.0 1.0 2.0'), "line 3: '1.0 1.0 2.0'"),
    'five columns': (set_line(40, '1 1 2 1 9'), "line 40: '1 1 2 1 9'"),
    'empty line': (set_line(7, ''), "line 7: ''"),
    'NaN': (set_line(2, '1.0 nan 2.0 1.0'), "line 2: '1.0 nan 2.0 1.0'"),
    'infinite': (set_line(2, '1 inf 2 1'), "line 2: '1 inf 2 1'"),
    'truncated': (lambda lines: lines[:-1], '59 lines'),
    'empty': (lambda lines: [], '0 lines'),
}


@pytest.mark.parametrize('fault', BROKEN)
def test_broken_file_is_left_out_or_stops(msr, tmp_path, capsys, fault):
    change, message = BROKEN[fault]
    raw = tmp_path / 'raw'
    write(raw, 'a01_s01_e01', recording(3))
    write(raw, 'a05_s02_e01', recording(3))
    path = raw / 'a05_s02_e01_skeleton3D.txt'
    path.write_text('\n'.join(change(path.read_text().splitlines())))
    assert list(by_name(convert(msr, raw))) == ['a01_s01_e01']
    captured = capsys.readouterr()
    assert f'left out, broken: {path}' in captured.err
    assert message in captured.err
    assert '1 broken' in captured.out

    (tmp_path / 'out.pkl').unlink()
    with pytest.raises(SystemExit) as stop:
        convert(msr, raw, '--strict')
    assert str(path) in str(stop.value)
    assert message in str(stop.value)
    assert not (tmp_path / 'out.pkl').exists()


@pytest.mark.parametrize(
    'name', ['a21_s01_e01', 'a00_s01_e01', 'a01_s11_e01', 'a1_s01', 'copy']
)
def test_file_of_another_name_is_left_out_or_stops(
    msr, tmp_path, capsys, name
):
    write(tmp_path / 'raw', 'a01_s01_e01', recording(3))
    write(tmp_path / 'raw', name, recording(3))
    samples = by_name(convert(msr, tmp_path / 'raw'))
    assert list(samples) == ['a01_s01_e01']
    assert f"'{name}' names no sequence" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=f"'{name}' names no sequence"):
        convert(msr, tmp_path / 'raw', '--strict')


def test_folder_without_sequences(msr, tmp_path):
    (tmp_path / 'raw').mkdir()
    with pytest.raises(SystemExit, match=r'raw: holds no \*_skeleton3D'):
        convert(msr, tmp_path / 'raw')


def test_nothing_usable_writes_nothing(msr, tmp_path):
    write(tmp_path / 'raw', 'a01_s01_e01', np.zeros((3, 20, 4)))
    with pytest.raises(SystemExit, match='no usable sequence'):
        convert(msr, tmp_path / 'raw')
    assert not (tmp_path / 'out.pkl').exists()


@pytest.mark.skipif(
    'MSR_ACTION3D' not in os.environ,
    reason='MSR_ACTION3D does not name the folder of the release',
)
def test_counts_of_the_real_release(msr, tmp_path):
    out = tmp_path / 'out.pkl'
    msr.main([os.environ['MSR_ACTION3D'], str(out)])
    content = read_annotations(out)
    samples = by_name(content)
    assert len(samples) == 566
    assert samples['a01_s01_e01']['keypoint'][0, 0, 0].tolist() == [
        np.float32(v) for v in (-0.371736, 0.371031, 2.674849)
    ]
    # Of the 567 files the standard list leaves out ten.
    unused = 'a02_s03_e02 a04_s03_e01 a07_s04_e01 a13_s09_e01 a13_s09_e02 '
    unused += 'a13_s09_e03 a14_s03_e01 a20_s07_e01 a20_s07_e03 a20_s10_e03'
    wanted = tmp_path / 'sequences.txt'
    wanted.write_text('\n'.join(samples.keys() - set(unused.split())))
    options = ['--sequences', str(wanted), '--strict']
    msr.main([os.environ['MSR_ACTION3D'], str(out), *options])
    split = read_annotations(out)['split']
    assert {name: len(part) for name, part in split.items()} == {
        'xsub_train': 284,
        'xsub_val': 273,
    }
