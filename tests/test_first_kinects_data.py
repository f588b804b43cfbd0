"""Converters of MSR-Action3D, Northwestern-UCLA and UTD-MHAD."""

import os
from pathlib import Path

import numpy as np
import pytest
from raw_files import write_msr, write_ucla, write_utd

from mamp_mmaction.datasets.annotation_file import read_annotations


def recording(frames=15, seed=0):
    """Positions (T, 20, 3), six decimals as in text files."""
    rng = np.random.default_rng(seed)
    return rng.normal(2.5, 0.5, size=(frames, 20, 3)).round(6)


CASES = {
    'msr_action3d': (
        '_skeleton3D.txt',
        write_msr,
        {
            'a01_s01_e01': (0, 'xsub_train', 'high arm wave'),
            'a07_s02_e02': (6, 'xsub_val', 'draw X'),
            'a20_s10_e03': (19, 'xsub_val', 'pickup and throw'),
        },
    ),
    'nw_ucla': (
        '.json',
        write_ucla,
        {
            'a01_s01_e00_v01': (0, 'xview_train', 'pick up with one hand'),
            'a08_s10_e10_v02': (6, 'xview_train', 'donning'),
            'a12_s02_e03_v03': (9, 'xview_val', 'carry'),
        },
    ),
    'utd_mhad': (
        '_skeleton.mat',
        write_utd,
        {
            'a10_s2_t4': (9, 'xsub_val', 'draw circle counter-clockwise'),
            'a1_s1_t1': (0, 'xsub_train', 'swipe left'),
            'a27_s7_t3': (26, 'xsub_train', 'squat'),
        },
    ),
}


@pytest.fixture
def converter(load_tool, tmp_path):
    """The folder of raw files, and what converts it, by data set."""
    raw = tmp_path / 'raw'
    raw.mkdir()

    def converter(name):
        def convert(*options):
            arguments = [raw, 'out.pkl', '--num-workers=1', *options]
            load_tool(f'data/{name}').main([*map(str, arguments)])
            return read_annotations('out.pkl')

        return raw, convert

    return converter


@pytest.fixture(params=CASES)
def case(request, converter):
    suffix, write, samples = CASES[request.param]
    raw, convert = converter(request.param)
    for i, name in enumerate(samples):
        write(raw / f'{name}{suffix}', recording(1 + 20 * i, seed=i))
    return raw, samples, convert, write


def test_arrays_are_what_the_files_say(case):
    _, samples, convert, _ = case
    content = convert()
    assert [a['frame_dir'] for a in content['annotations']] == list(samples)
    for i, sample in enumerate(content['annotations']):
        name = sample['frame_dir']
        label, split, class_name = samples[name]
        assert sample['label'] == label
        assert content['classes'][label] == class_name
        assert name in content['split'][split]
        assert sample['total_frames'] == 1 + 20 * i  # a single frame stays
        assert sample['keypoint'].dtype == np.float32
        np.testing.assert_array_equal(
            sample['keypoint'],
            recording(1 + 20 * i, seed=i)[None].astype(np.float32),
        )
    assert sum(map(len, content['split'].values())) == 3


def beyond_float32():
    values = recording()
    values[3, 2, 1] = 1e39
    return values


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            recording(3)[:, :19],
            'have|has the shape .*19.*, expected|57 lines are no whole number '
            'of frames of 20 lines',
        ),
        (
            beyond_float32(),
            r'NaN, infinite or beyond|line 63: .* \(4 values\), expected 4 fi',
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:300]),
            'be read|expected 4|no whole number',
        ),
        (lambda path: path.write_text(''), 'be read|is empty'),
        (lambda path: path.write_text('{"label": 1}'), 'be read|line 1: '),
        (lambda path: path.rename(path.with_name('a99' + path.name[2:])), ''),
    ],
)
def test_broken_file_is_named_and_left_out_or_stops(
    case, capsys, change, message
):
    raw, _, convert, write = case
    path = sorted(raw.iterdir())[1]
    if callable(change):
        change(path)
    else:
        write(path, change)
    assert len(convert()['annotations']) == 2
    told = capsys.readouterr().err
    (broken,) = (
        line for line in told.splitlines() if line.startswith('left out, brok')
    )
    assert str(raw) in broken
    with pytest.raises(SystemExit, match=f'error: .*{raw}.*({message})'):
        convert('--strict')


def test_action_that_the_release_lacks(converter, capsys):
    raw, convert = converter('nw_ucla')
    for name in ('a01_s01_e00_v01', 'a07_s01_e00_v01'):
        write_ucla(raw / f'{name}.json', recording())
    convert()
    assert 'no action 7, expected (1, 2, 3' in capsys.readouterr().err


def test_frames_without_tracking_are_dropped_whatever_their_confidence(
    converter, capsys
):
    raw, convert = converter('msr_action3d')
    values, lost = recording(20), np.zeros((4, 20, 3))
    values[[0, 5, 6, 19]] = 0
    values[9, 3:] = 0  # still a frame: three joints are tracked
    write_msr(raw / 'a01_s01_e01_skeleton3D.txt', values)
    write_msr(raw / 'a02_s01_e01_skeleton3D.txt', lost)
    (sample,) = convert()['annotations']
    assert sample['frame_dir'] == 'a01_s01_e01'
    printed = capsys.readouterr()
    assert 'left out, no frame tracked: a02_s01_e01' in printed.err
    assert 'left out, untracked   1' in printed.out
    kept = np.delete(values, [0, 5, 6, 19], axis=0)[None]
    np.testing.assert_array_equal(sample['keypoint'], kept.astype(np.float32))


def test_list_selects_sequences(converter):
    """From the release's folder."""
    raw, convert = converter('msr_action3d')
    folder = raw / 'real_world_coordinates'
    folder.mkdir()
    for name in ('a01_s01_e01', 'a01_s02_e01', 'a01_s03_e01'):
        write_msr(folder / f'{name}_skeleton3D.txt', recording())
    wanted = raw / 'sequences.txt'
    wanted.write_text('a01_s03_e01\na01_s02_e01\n')
    assert convert('--sequences', wanted)['split'] == {
        'xsub_train': ['a01_s03_e01'],
        'xsub_val': ['a01_s02_e01'],
    }
    wanted.write_text('a01_s03_e01\na09_s02_e01\n')
    with pytest.raises(SystemExit, match=r"1 are not in.*'a09_s02_e01'"):
        convert('--sequences', wanted)


SIZES = {
    'msr_action3d': {'xsub_train': 284, 'xsub_val': 273},
    'nw_ucla': {'xview_train': 1020, 'xview_val': 464},
    'utd_mhad': {'xsub_train': 431, 'xsub_val': 430},
}


@pytest.mark.parametrize('name', SIZES)
def test_counts_of_the_real_release(load_tool, name):
    raw = os.environ.get(name.upper())
    if not raw:
        pytest.skip(f'{name.upper()} does not name the folder of the release')
    options = ['--strict']
    if name == 'msr_action3d':
        # Of the 567 files the standard list leaves out ten.
        unused = 'a02_s03_e02 a04_s03_e01 a07_s04_e01 a13_s09_e01 a13_s09_e02 '
        unused += 'a13_s09_e03 a14_s03_e01 a20_s07_e01 a20_s07_e03 a20_s10_e03'
        names = {path.name[:11] for path in Path(raw).rglob('a*_skeleton3D*')}
        Path('list.txt').write_text('\n'.join(names - {*unused.split()}))
        options += ['--sequences', 'list.txt']
    load_tool(f'data/{name}').main([raw, 'out.pkl', *options])
    content = read_annotations('out.pkl')
    sizes = {part: len(names) for part, names in content['split'].items()}
    assert sizes == SIZES[name]
    labels = {sample['label'] for sample in content['annotations']}
    assert labels == set(range(len(content['classes'])))
