import json
import os

import numpy as np
import pytest
from scipy.io import savemat

from mamp_mmaction.datasets.annotation_file import read_annotations


def recording(frames=15, seed=0):
    """Positions (T, 20, 3)."""
    rng = np.random.default_rng(seed)
    return rng.normal(2.5, 0.5, size=(frames, 20, 3)).round(6)


def write_json(folder, name, values):
    content = dict(file_name=name, skeletons=values.tolist(), label=1)
    (folder / f'{name}.json').write_text(json.dumps(content))


def write_mat(folder, name, values):
    path = folder / f'{name}_skeleton.mat'
    savemat(path, dict(d_skel=values.transpose(1, 2, 0)))


CASES = {
    'nw_ucla': (
        write_json,
        {
            'a01_s01_e00_v01': (0, 'xview_train', 'pick up with one hand'),
            'a08_s10_e10_v02': (6, 'xview_train', 'donning'),
            'a12_s02_e03_v03': (9, 'xview_val', 'carry'),
        },
    ),
    'utd_mhad': (
        write_mat,
        {
            'a10_s2_t4': (9, 'xsub_val', 'draw circle counter-clockwise'),
            'a1_s1_t1': (0, 'xsub_train', 'swipe left'),
            'a27_s7_t3': (26, 'xsub_train', 'squat'),
        },
    ),
}


@pytest.fixture(params=CASES)
def case(request, load_tool, tmp_path):
    write, samples = CASES[request.param]
    raw = tmp_path / 'raw'
    raw.mkdir()
    for i, name in enumerate(samples):
        write(raw, name, recording(1 + 20 * i, seed=i))

    def convert(*options):
        out = tmp_path / 'out.pkl'
        main = load_tool(f'data/{request.param}').main
        main([str(raw), str(out), '--num-workers=1', *options])
        return read_annotations(out)

    return raw, samples, convert


def test_arrays_are_what_the_files_say(case):
    _, samples, convert = case
    content = convert()
    assert [a['frame_dir'] for a in content['annotations']] == list(samples)
    for i, sample in enumerate(content['annotations']):
        name = sample['frame_dir']
        label, split, class_name = samples[name]
        assert sample['label'] == label
        assert content['classes'][label] == class_name
        assert name in content['split'][split]
        assert sample['total_frames'] == 1 + 20 * i  # a single frame stays
        np.testing.assert_array_equal(
            sample['keypoint'],
            recording(1 + 20 * i, seed=i)[None].astype(np.float32),
        )
    assert sum(map(len, content['split'].values())) == 3


def other_joints(path):
    values = recording()[:, :19]
    write = write_json if path.suffix == '.json' else write_mat
    write(path.parent, path.stem.removesuffix('_skeleton'), values)


def beyond_float32(path):
    values = recording()
    values[3, 2, 1] = 1e39
    write = write_json if path.suffix == '.json' else write_mat
    write(path.parent, path.stem.removesuffix('_skeleton'), values)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (other_joints, 'have|has the shape .*19.*, expected'),
        (beyond_float32, 'NaN, infinite or beyond'),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), 'be read'),
        (lambda path: path.write_text(''), 'be read'),
        (lambda path: path.write_text('{"label": 1}'), 'be read'),
        (lambda path: path.rename(path.with_name('a99' + path.name[2:])), ''),
    ],
)
def test_broken_file_is_named_and_left_out_or_stops(
    case, capsys, change, message
):
    raw, _, convert = case
    path = sorted(raw.iterdir())[1]
    change(path)
    assert len(convert()['annotations']) == 2
    told = capsys.readouterr().err
    (broken,) = (
        line for line in told.splitlines() if line.startswith('left out, brok')
    )
    assert str(raw) in broken
    with pytest.raises(SystemExit, match=f'error: .*{raw}.*({message})'):
        convert('--strict')


def test_action_that_the_release_lacks(case, capsys):
    raw, _, convert = case
    for path in raw.glob('a12*.json'):
        path.rename(path.with_name(path.name.replace('a12', 'a07')))
        convert()
        assert 'no action 7, expected (1, 2, 3' in capsys.readouterr().err


SIZES = {
    'nw_ucla': {'xview_train': 1020, 'xview_val': 464},
    'utd_mhad': {'xsub_train': 431, 'xsub_val': 430},
}


@pytest.mark.parametrize('name', SIZES)
def test_counts_of_the_real_release(load_tool, tmp_path, name):
    raw = os.environ.get(name.upper())
    if not raw:
        pytest.skip(f'{name.upper()} does not name the folder of the release')
    out = tmp_path / 'out.pkl'
    load_tool(f'data/{name}').main([raw, str(out), '--strict'])
    content = read_annotations(out)
    sizes = {part: len(names) for part, names in content['split'].items()}
    assert sizes == SIZES[name]
    labels = {sample['label'] for sample in content['annotations']}
    assert labels == set(range(len(content['classes'])))
