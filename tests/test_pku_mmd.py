import numpy as np
import pytest

from mamp_mmaction.datasets.annotation_file import read_annotations

SPLIT_FILES = {
    'hyphens': ('cross-subject{}.txt', 'cross-view{}.txt'),
    'underscores': ('cross_subject{}.txt', 'cross_view{}.txt'),
}


@pytest.fixture(scope='module')
def pku(load_tool):
    return load_tool('data/pku_mmd')


def video(frames=40, seed=0, persons=2):
    """Positions (n, 2, 25, 3) as files hold them, absent persons zero."""
    rng = np.random.default_rng(seed)
    values = rng.normal(scale=0.8, size=(frames, 2, 25, 3)).round(6)
    values[:, persons:] = 0
    return values


def write_video(raw, name, values, *labels):
    """Write a video's two files; ``labels`` are class, start, end."""
    for folder in ('skeleton', 'label'):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    path = raw / 'skeleton' / f'{name}.txt'
    np.savetxt(path, values.reshape(len(values), -1), fmt='%.6f')
    rows = [','.join(map(str, (*label, 2))) for label in labels]
    (raw / 'label' / f'{name}.txt').write_text('\n'.join(rows))


def write_splits(raw, subject, view=None, spelling='hyphens', version=''):
    raw.mkdir(exist_ok=True)
    view = subject if view is None else view
    for file, train in zip(SPLIT_FILES[spelling], (subject, view)):
        (raw / file.format(version)).write_text(
            f'Training videos:\n{", ".join(train)}, \n'
            'Validation videos:\n9998-L, 9999-L,\n'
        )


def convert(pku, raw, *options, phase=1):
    out = raw.parent / 'out.pkl'
    workers = () if '--num-workers' in options else ('--num-workers', 1)
    options = map(str, ('--phase', phase, *options, *workers))
    pku.main([str(raw), str(out), *options])
    return read_annotations(out)


def names(content):
    return [a['frame_dir'] for a in content['annotations']]


def test_arrays_are_what_the_files_say(pku, tmp_path):
    raw = tmp_path / 'raw'
    two, one = video(60, seed=1), video(50, seed=2, persons=1)
    write_video(raw, '0002-L', two, (1, 0, 20), (51, 25, 60), (7, 10, 11))
    write_video(raw, '0007-M', one, (32, 5, 50))
    write_splits(raw, subject=['0002-L'], view=['0007-M'])
    content = convert(pku, raw)

    expected = {
        '0002-L_001': (0, two[0:20]),
        '0002-L_002': (50, two[25:60]),
        '0002-L_003': (6, two[10:11]),
        # The label file has a single line, the second person is absent.
        '0007-M_001': (31, one[5:50, :1]),
    }
    assert names(content) == list(expected)
    for sample, (label, frames) in zip(
        content['annotations'], expected.values()
    ):
        assert sample['label'] == label
        assert sample['total_frames'] == len(frames)
        assert sample['keypoint'].dtype == np.float32
        np.testing.assert_array_equal(
            sample['keypoint'],
            frames.transpose(1, 0, 2, 3).astype(np.float32),
        )
    assert content['split'] == {
        'xsub_train': ['0002-L_001', '0002-L_002', '0002-L_003'],
        'xsub_val': ['0007-M_001'],
        'xview_train': ['0007-M_001'],
        'xview_val': ['0002-L_001', '0002-L_002', '0002-L_003'],
    }
    assert len(content['classes']) == len(set(content['classes'])) == 51
    assert content['classes'][31] == 'salute'


def test_absent_persons_are_not_stored(pku, tmp_path, capsys):
    values = video(40)
    values[:10] = 0  # nobody
    values[10:20, 0] = 0  # the second person alone
    values[20:30, 1] = 0
    labels = ((1, 0, 10), (2, 5, 20), (3, 20, 30), (4, 0, 40))
    write_video(tmp_path / 'raw', '0002-L', values, *labels)
    write_splits(tmp_path / 'raw', ['0002-L'])
    content = convert(pku, tmp_path / 'raw')
    assert names(content) == ['0002-L_002', '0002-L_003', '0002-L_004']
    expected = (values[5:20, 1:], values[20:30, :1], values)
    for sample, frames in zip(content['annotations'], expected):
        np.testing.assert_array_equal(
            sample['keypoint'],
            frames.swapaxes(0, 1).astype(np.float32),
        )
    captured = capsys.readouterr()
    assert 'nobody present: 0002-L_001' in captured.err
    assert 'instances without a person  1' in captured.out


def test_first_300_frames_are_kept(pku, tmp_path, capsys):
    """And training videos without files are counted."""
    values = video(320, persons=1)
    write_video(tmp_path / 'raw', '0002-L', values, (1, 5, 306), (2, 5, 305))
    write_splits(tmp_path / 'raw', ['0002-L', '0003-L', '0004-L'], ['0002-L'])
    for sample in convert(pku, tmp_path / 'raw')['annotations']:
        assert sample['total_frames'] == 300
        np.testing.assert_array_equal(
            sample['keypoint'][0], values[5:305, 0].astype(np.float32)
        )
    out = capsys.readouterr().out
    assert 'cut to 300 frames     1\n' in out
    assert '2 of the 3 training videos of xsub have no file' in out
    assert 'of xview have' not in out


# Splits


@pytest.mark.parametrize('spelling', SPLIT_FILES)
@pytest.mark.parametrize(('phase', 'version'), [(1, ''), (2, '_v2')])
@pytest.mark.parametrize('folder', ['.', 'split'])
def test_split_files_are_found(
    pku, tmp_path, spelling, phase, version, folder
):
    raw = tmp_path / 'raw'
    for name in ('A01N01-L', 'A01N01-M', 'A01N02-L'):
        write_video(raw, name, video(5), (1, 0, 5))
    # The other phase's files must not be taken.
    write_splits(raw, ['A01N02-L'], None, spelling, '' if version else '_v2')
    train = ['A01N01-L', 'A01N01-M']
    write_splits(raw / folder, train, train[1:], spelling, version)
    assert convert(pku, raw, phase=phase)['split'] == {
        'xsub_train': ['A01N01-L_001', 'A01N01-M_001'],
        'xsub_val': ['A01N02-L_001'],
        'xview_train': ['A01N01-M_001'],
        'xview_val': ['A01N01-L_001', 'A01N02-L_001'],
    }


def test_missing_and_ambiguous_split_files(pku, tmp_path):
    raw = tmp_path / 'raw'
    write_video(raw, '0002-L', video(5), (1, 0, 5))
    with pytest.raises(SystemExit, match=r'one file cross_subject\.txt or'):
        convert(pku, raw)
    write_splits(raw, ['0002-L'], spelling='hyphens')
    write_splits(raw, ['0002-L'], spelling='underscores')
    with pytest.raises(SystemExit, match=r'found 2: .*cross-subject\.txt, '):
        convert(pku, raw)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('Training\n0002-L, 0003-L\n', 'found 2 lines'),
        ('Training\n,\nValidation\n0003-L\n', 'found 4 lines'),
        ('Training\n2-L, 3-L\nValidation\n4-L, 3-L', "the first is '3-L'"),
    ],
)
def test_split_file_of_another_form(pku, tmp_path, text, message):
    raw = tmp_path / 'raw'
    write_video(raw, '0002-L', video(5), (1, 0, 5))
    write_splits(raw, ['0002-L'])
    (raw / 'cross-view.txt').write_text(text)
    with pytest.raises(SystemExit, match=rf'cross-view\.txt: .*{message}'):
        convert(pku, raw)


# Broken files


def test_broken_skeleton_is_left_out_or_stops(pku, tmp_path, capsys):
    raw = tmp_path / 'raw'
    for name in ('0002-L', '0003-L'):
        write_video(raw, name, video(9), (1, 0, 9), (2, 4, 6))
    write_splits(raw, ['0002-L'])
    path = raw / 'skeleton' / '0003-L.txt'
    path.write_text(path.read_text().replace('\n', '\n1e39 2\n', 1))
    assert names(convert(pku, raw)) == ['0002-L_001', '0002-L_002']
    message = f"{path}, line 2: '1e39 2' (2 values), expected 150 finite"
    assert f'left out, broken: {message}' in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        convert(pku, raw, '--strict')
    assert str(stop.value).startswith(f'error: {message}')


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ('3,4,31,2', '0 <= start < end <= 30, the frames'),
        ('3,9,9,2', '0 <= start < end <= 30, the frames'),
        ('3,-1,9,2', '0 <= start < end <= 30, the frames'),
        ('52,4,9,2', 'a class from 1 to 51'),
        ('0,4,9,2', 'a class from 1 to 51'),
        ('3,4,x,2', 'class,start,end,confidence'),
        ('3,4,9', 'class,start,end,confidence'),
        ('', 'class,start,end,confidence'),
    ],
)
def test_broken_label_leaves_out_its_instance_or_stops(
    pku, tmp_path, capsys, row, message
):
    raw = tmp_path / 'raw'
    write_video(raw, '0002-L', video(30), (1, 0, 9))
    path = raw / 'label' / '0002-L.txt'
    path.write_text(f'1,0,9,2\r\n{row}\r\n5,20,30,1\r\n', newline='')
    write_splits(raw, ['0002-L'])
    content = convert(pku, raw)
    assert names(content) == ['0002-L_001', '0002-L_003']
    assert [a['label'] for a in content['annotations']] == [0, 4]
    captured = capsys.readouterr()
    assert f'left out, broken: {path}, line 2: {row!r}' in captured.err
    assert f'expected {message}' in captured.err
    assert 'instances broken      1' in captured.out
    with pytest.raises(SystemExit) as stop:
        convert(pku, raw, '--strict')
    assert f'{path}, line 2: {row!r}, expected' in str(stop.value)


@pytest.mark.parametrize('folder', ['skeleton', 'label'])
def test_file_without_its_counterpart_is_named(pku, tmp_path, capsys, folder):
    raw = tmp_path / 'raw'
    for name in ('0002-L', '0003-L'):
        write_video(raw, name, video(9), (1, 0, 9))
    write_splits(raw, ['0002-L'])
    missing = raw / folder / '0003-L.txt'
    missing.unlink()
    assert names(convert(pku, raw)) == ['0002-L_001']
    assert str(missing) in capsys.readouterr().err


def test_folder_without_videos(pku, tmp_path):
    (tmp_path / 'raw').mkdir()
    with pytest.raises(SystemExit, match='raw: holds neither skeleton/'):
        convert(pku, tmp_path / 'raw')
