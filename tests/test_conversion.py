import os
from pathlib import Path

import numpy as np
import pytest

from mamp_mmaction.datasets.annotation_file import read_annotations
from mamp_mmaction.datasets.class_names import CLASS_NAMES
from mamp_mmaction.datasets.conversion import (
    RawFile,
    convert,
    find_files,
    make_annotation,
    parse_lines,
    parse_name,
    read_files,
    read_lines,
)


def read(path):
    """Three columns, of which all rows are a frame of one joint."""
    values = parse_lines(path, read_lines(path), columns=3)
    keypoint = values[None, :, None]
    return RawFile(
        [make_annotation(path.stem, int(path.stem[-1]), keypoint)],
        [f'odd: {path.stem}'] if len(values) % 2 else [],
        {'frames read': len(values)},
    )


@pytest.fixture
def files(tmp_path):
    for i in range(8):
        rows = np.arange(6 + 3 * i).reshape(-1, 3) / 3
        np.savetxt(tmp_path / f's{i}.txt', rows)
    return find_files(tmp_path, '*.txt')


def run(files, *options, **kwargs):
    out = files[0].parent / 'out.pkl'
    in_train = {'half': lambda name: int(name[1:]) % 2 == 0}
    convert(read, files, out, [*'abcdefgh'], in_train, *options, **kwargs)
    return read_annotations(out)


@pytest.mark.parametrize('num_workers', [1, 3])
def test_files_become_samples_splits_and_a_summary(files, num_workers, capsys):
    content = run(files[::-1], num_workers)
    assert content['classes'] == list('abcdefgh')
    assert content['split'] == {
        'half_train': ['s0', 's2', 's4', 's6'],
        'half_val': ['s1', 's3', 's5', 's7'],
    }
    samples = content['annotations']
    assert [a['label'] for a in samples] == list(range(8))[::-1]
    for path, sample in zip(files[::-1], samples):
        assert sample['keypoint'].dtype == np.float32
        np.testing.assert_array_equal(
            sample['keypoint'][0, :, 0], np.loadtxt(path).astype(np.float32)
        )
    printed = capsys.readouterr()
    assert f'{"frames read":<20}  44\n' in printed.out
    assert f'{"left out, broken":<20}  0\n' in printed.out
    assert printed.err.splitlines() == [
        *(f'left out, odd: s{i}' for i in (7, 5, 3, 1)),
        "warning: 4 classes have no sequence in half_train, the first is 'b'",
    ]


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('1 x 2', "'1 x 2' (3 values), expected 3 finite numbers."),
        ('1 2 3 4', "'1 2 3 4' (4 values)"),
        ('', "'' (0 values)"),
        ('1 inf 2', "'1 inf 2'"),
        ('1 1e39 2', "'1 1e39 2'"),  # a double, but no float32
    ],
)
@pytest.mark.parametrize('num_workers', [1, 2])
def test_broken_file_is_named_and_left_out_or_stops(
    files, num_workers, line, message, capsys
):
    lines = read_lines(files[5])
    files[5].write_text('\n'.join([*lines[:2], line, *lines[2:]]))
    message = f'{files[5]}, line 3: {message}'
    samples = run(files, num_workers)['annotations']
    assert [a['frame_dir'][1] for a in samples] == list('0123467')
    printed = capsys.readouterr()
    assert f'left out, broken: {message}' in printed.err
    assert f'{"left out, broken":<20}  1\n' in printed.out
    out = files[0].parent / 'out.pkl'
    out.unlink()
    with pytest.raises(ValueError) as stop:
        run(files, num_workers, strict=True)
    assert str(stop.value).startswith(message)
    assert not out.exists()


def test_file_that_gives_no_sound_sample_is_broken(files):
    def flat(path):
        content = read(path)
        if path == files[3]:
            content.annotations[0]['keypoint'] = np.zeros((2, 3), np.float32)
        return content

    contents, broken = read_files(flat, files, num_workers=1)
    assert len(contents) == 7
    assert len(broken) == 1 and 's3' in broken[0] and '(2, 3)' in broken[0]


def test_empty_or_missing_file_is_broken(files, capsys):
    files[1].write_text('\n \n')
    files[2].unlink()
    assert len(run(files, 1)['annotations']) == 6
    printed = capsys.readouterr().err
    assert f'broken: {files[1]}: is empty.' in printed
    assert str(files[2]) in printed
    out = files[0].parent / 'out.pkl'
    out.unlink()
    with pytest.raises(ValueError, match='no usable sequence is left of 2'):
        run(files[1:3], 1)
    assert not out.exists()


def test_place_to_write_to_is_checked_before_the_work(files, tmp_path):
    in_train = {'half': lambda name: True}
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder.pkl').mkdir()
    for out, error, message in (
        (tmp_path / 'out.npz', ValueError, 'the name of a .pkl'),
        (tmp_path / 'file' / 'out.pkl', OSError, 'written: .*file/out.pkl'),
        (tmp_path / 'folder.pkl', OSError, 'Is a directory: .*/folder.pkl'),
    ):
        with pytest.raises(error, match=message):
            convert(pytest.fail, files, out, 'abcdefgh', in_train, 1)


def test_lines_of_which_some_columns_count():
    path = Path('a.txt')
    lines = ['1 2 nan x', '  3   4 y z ']
    values = parse_lines(path, lines, columns=4, used=2)
    np.testing.assert_array_equal(values, [[1, 2], [3, 4]])
    with pytest.raises(ValueError, match=r'line 9: .*the first 3 finite'):
        parse_lines(path, lines, columns=4, used=3, numbers=[9, 12])
    assert parse_lines(path, [], columns=4, used=2).shape == (0, 2)


def test_names_are_numbers_in_range():
    most = {'action': 20, 'subject': 10}
    path = Path('x/a07_s10.txt')
    numbers = parse_name(path, r'a(\d\d)_s(\d\d)', most)
    assert numbers == {'action': 7, 'subject': 10}
    for name in ('a21_s01', 'a00_s01', 'a01_s11', 'a1_s01', 'a01_s01_', 'a'):
        with pytest.raises(ValueError, match=f'{name}.*subject 1 to 10'):
            parse_name(Path(f'{name}.txt'), r'a(\d\d)_s(\d\d)', most)


def test_missing_folder_and_folder_without_files(tmp_path):
    with pytest.raises(OSError, match='none: there is no such folder'):
        find_files(tmp_path / 'none', '*.txt')
    with pytest.raises(OSError, match=r'holds no \*\.txt; give the folder'):
        find_files(tmp_path, '*.txt')


def test_workers_that_are_killed_or_none():
    with pytest.raises(ChildProcessError, match='ended a worker process'):
        read_files(os._exit, [1, 1], num_workers=2)
    with pytest.raises(ValueError, match='--num-workers is 0, less than 1'):
        read_files(read, [], num_workers=0)


def test_class_names_are_complete_and_differ():
    numbers = {name: len(names) for name, names in CLASS_NAMES.items()}
    assert numbers == {
        'ntu60': 60,
        'ntu120': 120,
        'pku_mmd': 51,
        'msr_action3d': 20,
        'nw_ucla': 10,
        'utd_mhad': 27,
        'toy': 16,
    }
    assert CLASS_NAMES['ntu120'][:60] == CLASS_NAMES['ntu60']
    for names in CLASS_NAMES.values():
        assert len(set(names)) == len(names)
        assert all(name.strip() == name != '' for name in names)


def read_pair(path):
    """Six columns, of which all rows are a frame of two joints."""
    values = parse_lines(path, read_lines(path), columns=6)
    return RawFile(
        [make_annotation(path.stem, 0, values.reshape(1, -1, 2, 3))]
    )


def test_a_file_in_another_unit_is_told(tmp_path, capsys):
    for i, unit in enumerate([1, 1000, 1, 1 / 40, 1]):
        np.savetxt(tmp_path / f's{i}.txt', unit * np.arange(12).reshape(2, 6))
    files = find_files(tmp_path, '*.txt')
    in_train = {'': lambda name: True}
    convert(read_pair, files, tmp_path / 'out.pkl', ['a'], in_train)
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [
        'warning: in 1 of 5 sequences a body is 50 times larger or smaller '
        'than usual (3), as if in another unit; the first is s1 (3000)'
    ]
