"""From a skeleton file to an answer: the inferencer and the demo."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import small_models
import synthetic
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from PIL import Image
from raw_files import (
    write_csv,
    write_msr,
    write_ntu,
    write_pku,
    write_ucla,
    write_utd,
)

from mamp_mmaction.inference import SkeletonInferencer, read_recordings
from mamp_mmaction.inference.model_joints import ModelJoints
from mamp_mmaction.layouts import get_layout, joint_indices

CLASSES = ['draw X', 'wave', 'drink water', 'sit down', 'carry', 'swipe left']


def body(frames=24, layout='nturgb+d', persons=1, seed=0):
    """A body of 1.6 metres that moves, (M, T, V, 3) in metres."""
    rng = np.random.default_rng(seed)
    joints = get_layout(layout).num_joints
    pose = rng.uniform(-0.8, 0.8, size=(persons, 1, joints, 3))
    pose[:, :, :2, 1] = [-0.8, 0.8]
    pose[1:] *= 0.7  # NTU RGB+D's persons are ordered by their spread
    steps = rng.normal(scale=0.01, size=(persons, frames, joints, 3))
    return (pose + steps.cumsum(axis=1) + [0, 0, 3]).astype(np.float32)


def steps(frames=small_models.T, persons=2):
    return synthetic.pipeline(frames, persons)


def model_of(kind, layout):
    head = None
    if kind == 'transformer':
        joints = get_layout(layout).num_joints
        backbone = small_models.encoder(num_joints=joints)
    else:
        backbone = small_models.gcn(kind, layout)
        head = small_models.gcn_head()
    return small_models.recognition(head, backbone)


def write_model(
    model, pipeline, name='model', classes=CLASSES, weights=None, **more
):
    """Write a config and a checkpoint of random weights; returns both."""
    cfg = dict(
        default_scope='mmaction',
        model=model,
        test_dataloader=dict(
            dataset=dict(
                type='SkeletonDataset',
                ann_file='data/some.pkl',
                pipeline=pipeline,
            )
        ),
        **more,
    )
    Config(cfg).dump(f'{name}.py')
    built = MODELS.build(dict(weights or model))
    meta = dict(dataset_meta=dict(classes=classes) if classes else {})
    torch.save(dict(state_dict=built.state_dict(), meta=meta), f'{name}.pth')
    return f'{name}.py', f'{name}.pth'


@pytest.fixture
def files():
    """Config and checkpoint of a transformer for NTU RGB+D's joints."""
    return write_model(
        model_of('transformer', 'nturgb+d'), steps(), model_layout='nturgb+d'
    )


@pytest.fixture
def demo(load_tool, files, capsys):
    """Runs the demo; returns what it prints, out and err."""
    main = load_tool('demo').main

    def run(source, *options, model=files):
        config, checkpoint = model
        arguments = [source, '--config', config, '--checkpoint', checkpoint]
        main([*map(str, arguments), *map(str, options)])
        return capsys.readouterr()

    return run


def read_csv(path):
    with open(path, newline='') as file:
        return list(csv.reader(file))


# The inferencer


@pytest.mark.parametrize(
    'kind', ['transformer', 'stgcn', 'aagcn', 'joints of another layout']
)
def test_batch_and_single_answers_agree_for_any_recogniser(kind):
    layout = 'kinect_v1' if 'another' in kind else 'nturgb+d'
    model = model_of('transformer' if 'another' in kind else kind, layout)
    more = dict(model_layout=layout) if layout == 'kinect_v1' else {}
    inferencer = SkeletonInferencer(*write_model(model, steps(), **more))
    inputs = [body(5 + 9 * i, persons=1 + i % 2, seed=i) for i in range(5)]
    given = dict(layout='nturgb+d')
    together = inferencer(inputs, batch_size=3, **given)['predictions']
    for values, found in zip(inputs, together):
        (alone,) = inferencer(values, **given)['predictions']
        np.testing.assert_allclose(
            found['pred_scores'], alone['pred_scores'], atol=1e-5
        )
        assert sum(found['pred_scores']) == pytest.approx(1)
        assert found['pred_label'] == np.argmax(found['pred_scores'])
        assert found['pred_class'] == CLASSES[found['pred_label']]
    # Another order of the inputs' joints changes nothing, where it is told.
    assert len({tuple(found['pred_scores']) for found in together}) == 5


def test_answers_are_those_of_the_model_on_the_pipelines_output(files):
    inferencer = SkeletonInferencer(*files)
    sample = synthetic.annotation(0)
    sample['keypoint'] = body(20)
    model = inferencer.model
    packed = inferencer.pipeline(dict(sample))
    with torch.no_grad():
        feats = model.backbone(packed['inputs'])
        expected = model.cls_head(feats).softmax(dim=-1)[0]
    (found,) = inferencer(sample)['predictions']
    assert found['name'] == 'S000'
    np.testing.assert_allclose(found['pred_scores'], expected, atol=1e-6)


def test_volumes_of_pixels(tmp_path):
    model = small_models.posec3d(average_clips='score')
    files = write_model(model, small_models.HEATMAPS)
    inferencer = SkeletonInferencer(*files)
    data = synthetic.pixel_data(2, 1)
    annotated = inferencer(data['annotations'])['predictions']
    assert sum(annotated[0]['pred_scores']) == pytest.approx(1)
    sample = data['annotations'][0]
    values = np.concatenate(
        [sample['keypoint'], sample['keypoint_score'][..., None]], axis=-1
    )
    np.save('pixels.npy', values)
    (found,) = inferencer('pixels.npy', image_size=(100, 100))['predictions']
    np.testing.assert_allclose(
        found['pred_scores'], annotated[0]['pred_scores'], atol=1e-5
    )
    bare = dict(sample, img_shape=None)
    synthetic.write(tmp_path / 'bare.pkl', [bare])
    for source in (values, bare, 'bare.pkl'):
        (same,) = inferencer(source, image_size=(100, 100))['predictions']
        assert same['pred_scores'] == found['pred_scores']
    assert bare['img_shape'] is None
    with pytest.raises(ValueError, match='has 25 joints, but the model takes'):
        del sample['keypoint_score']
        inferencer(dict(sample, keypoint=np.ones((1, 20, 25, 2))))


@pytest.mark.parametrize(
    ('classes', 'given', 'message'),
    [
        (CLASSES[:4], None, "checkpoint's data set names 4 .* num_classes=6"),
        (CLASSES, CLASSES * 2, 'the names given names 12 classes'),
    ],
)
def test_names_that_do_not_fit_the_head(classes, given, message):
    model = model_of('transformer', 'nturgb+d')
    files = write_model(model, steps(), classes=classes)
    with pytest.raises(ValueError, match=message):
        SkeletonInferencer(*files, classes=given)


def test_names_where_the_checkpoint_has_none():
    model = model_of('transformer', 'nturgb+d')
    files = write_model(model, steps(), classes=None)
    assert SkeletonInferencer(*files).classes == list('012345')
    cfg = Config.fromfile(files[0])
    cfg.test_dataloader.dataset.metainfo = dict(classes=CLASSES)
    assert SkeletonInferencer(cfg, files[1]).classes == CLASSES
    cfg.model.cls_head.num_classes = 10
    cfg.test_dataloader.dataset.ann_file = 'x/nw_ucla.pkl'
    del cfg.test_dataloader.dataset.metainfo
    state = MODELS.build(cfg.model).state_dict()
    torch.save(dict(state_dict=state), 'ten.pth')
    assert SkeletonInferencer(cfg, 'ten.pth').classes[-1] == 'carry'


def test_weights_of_another_model_are_refused(files):
    other = model_of('transformer', 'nturgb+d')
    other['cls_head']['num_classes'] = 9
    wrong = write_model(
        model_of('transformer', 'nturgb+d'), steps(), 'wrong', weights=other
    )
    with pytest.raises(ValueError, match=r'does not fit.*\(9, 16\)'):
        SkeletonInferencer(*wrong)
    pretraining = MODELS.build(
        small_models.pretraining(small_models.encoder(num_joints=25))
    )
    torch.save(pretraining.state_dict(), 'pretrained.pth')
    with pytest.raises(ValueError, match=r'missing cls_head\.'):
        SkeletonInferencer(files[0], 'pretrained.pth')


def test_joints_are_mapped_by_name_or_refused(files):
    ntu = SkeletonInferencer(*files)
    kinect = SkeletonInferencer(
        *write_model(
            model_of('transformer', 'utd_mhad'),
            [dict(type='MapJoints', source='kinect_v1', target='utd_mhad')]
            + steps(),
        )
    )
    values = body()
    (expected,) = kinect(
        values[:, :, joint_indices('nturgb+d', 'utd_mhad')], layout='utd_mhad'
    )['predictions']
    stored = values[:, :, joint_indices('nturgb+d', 'kinect_v1')]
    for given, layout in ((values, 'nturgb+d'), (stored, None)):
        (found,) = kinect(given, layout=layout)['predictions']
        assert found['pred_scores'] == expected['pred_scores']
    for inferencer, joints, layout, message in (
        (kinect, 25, None, "has 25 .* takes 20 .*'kinect_v1'.*'nturgb.*MapJ"),
        (kinect, 17, None, "Known with 17 joints: 'coco' and 'h36m'.*cannot"),
        (kinect, 21, None, 'No known layout has 21 joints'),
        (kinect, 25, 'coco', "its layout 'coco' has 17"),
        (ntu, 20, 'kinect_v1', "'nturgb.*MapJoints: .*lacks joints.*neck"),
    ):
        with pytest.raises(ValueError, match=message):
            inferencer(np.ones((9, joints, 3)), layout=layout)


def test_recordings_are_of_no_member_of_a_union():
    members = [
        dict(
            pipeline=[
                dict(type='MapJoints', source=source, target='kinect_v1')
            ]
        )
        for source in ('msr_action3d', 'nw_ucla')
    ]
    cfg = Config(
        dict(model={}, test_dataloader=dict(dataset=dict(datasets=members)))
    )
    joints = ModelJoints.of_config(cfg, members[0]['pipeline'])
    assert joints.stored == joints.layout == get_layout('kinect_v1')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda x: 1000 * x, 'units cannot be metres: a body measures 1[0-9]'),
        (lambda x: x[:, :0], r'\(1, 0, 25, 3\).*none of them 0'),
        (lambda x: 0 * x, 'all coordinates of its keypoint'),
        (lambda x: x * [np.nan, 1, 1], 'that are NaN'),
        (lambda x: x[..., :2], '2 numbers a joint.* takes 3'),
        (lambda x: x[0, 0], 'array of the shape'),
    ],
)
def test_broken_arrays_are_refused(files, change, message):
    inferencer = SkeletonInferencer(*files)
    with pytest.raises(ValueError, match=f'input 0.*{message}'):
        inferencer(change(body()))


def test_pixels_are_no_input_of_a_model_that_trained_in_3d():
    """Even where x, y and a score are as many numbers."""
    rotated = dict(type='RandomRotate3D')
    loader = dict(dataset=dict(pipeline=[rotated, *steps()]))
    inferencer = SkeletonInferencer(
        *write_model(
            model_of('transformer', 'nturgb+d'),
            steps(),
            train_dataloader=loader,
        )
    )
    np.save('a.npy', body())
    assert inferencer('a.npy')['predictions']
    with pytest.raises(ValueError, match='2 coordinates.*takes 3.*image-size'):
        inferencer('a.npy', image_size=(640, 480))


def test_one_frame_and_other_units_where_asked_for(files):
    inferencer = SkeletonInferencer(*files, check_units=False)
    for values in (body(frames=1), 1000 * body()):
        assert len(inferencer(values)['predictions'][0]['pred_scores']) == 6


def test_windows_cover_a_recording_to_its_end(files):
    inferencer = SkeletonInferencer(*files)
    values = body(40)
    values[:, 10:22] = 0
    np.save('long.npy', values)
    (recording,) = read_recordings('long.npy')
    windows = inferencer.predict_windows(recording, 12, 10, batch_size=2)
    spans = [(window.start, window.stop) for window in windows]
    assert spans == [(0, 12), (10, 22), (20, 32), (28, 40)]
    assert windows[1].scores is None  # nobody is there
    (expected,) = inferencer(values[:, 28:])['predictions']
    np.testing.assert_allclose(
        windows[3].scores, expected['pred_scores'], atol=1e-5
    )
    (whole,) = inferencer.predict_windows(recording, 99, 10)
    assert (whole.start, whole.stop) == (0, 40)


# Files


def write_named(path, values):
    names = get_layout('nturgb+d').joint_names[::-1]
    write_csv(path, values[0, :, ::-1], names)


def write_annotations(path, values):
    sample = dict(synthetic.annotation(0, label=1), keypoint=values)
    sample['total_frames'] = values.shape[1]
    samples = [synthetic.annotation(1), sample]
    content = dict(split={}, annotations=samples, classes=CLASSES)
    synthetic.write(path, content)


NTU = 'S001C001P001R001A001.skeleton'
KINDS = {
    # (name, writer, layout, persons, true class)
    'ntu': (
        NTU,
        lambda path, x: write_ntu(
            path, [list(enumerate(frame)) for frame in x.swapaxes(0, 1)]
        ),
        *('nturgb+d', 2, 'drink water'),
    ),
    'pku': (
        '0002-L.txt',
        lambda path, x: write_pku(path, x.swapaxes(0, 1)),
        *('nturgb+d', 2, None),
    ),
    'msr': (
        'a07_s02_e01_skeleton3D.txt',
        lambda path, x: write_msr(path, x[0]),
        *('msr_action3d', 1, 'draw X'),
    ),
    'ucla': (
        'a12_s01_e00_v03.json',
        lambda path, x: write_ucla(path, x[0]),
        *('nw_ucla', 1, 'carry'),
    ),
    'utd': (
        'a1_s1_t1_skeleton.mat',
        lambda path, x: write_utd(path, x[0]),
        *('utd_mhad', 1, 'swipe left'),
    ),
    'csv': ('named.csv', write_named, 'nturgb+d', 1, None),
    'annotations': ('data.pkl', write_annotations, 'nturgb+d', 2, 'wave'),
}


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_of_file(kind, demo, files):
    name, write, layout, persons, true = KINDS[kind]
    values = body(layout=layout, persons=persons)
    write(Path(name), values)
    model = files
    if layout != 'nturgb+d':
        # All models of 20 joints here want the first Kinect's order.
        model = write_model(
            model_of('transformer', 'kinect_v1'),
            steps(),
            'kinect',
            model_layout='kinect_v1',
        )
        values = values[:, :, joint_indices(layout, 'kinect_v1')]
    sample = ['--sample', 'S000'] if kind == 'annotations' else []
    printed = demo(name, '--out', 'out.csv', *sample, model=model).out
    (expected,) = SkeletonInferencer(*model)(values)['predictions']
    scores = np.sort(expected['pred_scores'])[::-1][:5]
    lines = re.findall(r'^ +([\d.]+) %  (.*)$', printed, re.M)
    assert lines[0][1] == expected['pred_class']
    np.testing.assert_allclose(
        [float(share) for share, _ in lines], 100 * scores, atol=0.01
    )
    mapped = f'from layout {layout} to kinect_v1 by MapJoints'
    assert (mapped in printed) == (layout in ('msr_action3d', 'utd_mhad'))
    _, row = read_csv('out.csv')
    assert row[2:4] == [true or '', expected['pred_class']]


def test_openpose_folder_keeps_persons_apart(tmp_path):
    rng = np.random.default_rng(0)
    left = rng.uniform(100, 200, size=(25, 2))
    persons = np.stack([left, left + [400, 0]])
    (tmp_path / 'clip').mkdir()
    for t in range(12):
        people = [
            dict(
                pose_keypoints_2d=np.c_[person + t, np.full(25, 0.9 - 0.1 * i)]
                .ravel()
                .tolist()
            )
            for i, person in enumerate(persons)
        ]
        people = people[:: (-1) ** t][: 1 if t == 4 else 2]
        path = tmp_path / 'clip' / f'clip_{t}_keypoints.json'
        path.write_text(json.dumps(dict(people=people)))
    (recording,) = read_recordings(tmp_path / 'clip', image_size=(640, 480))
    sample = recording.sample
    assert recording.layout == 'openpose25'
    assert sample['img_shape'] == (480, 640)
    expected = persons[:, None] + np.arange(12)[:, None, None]
    expected[1, 4] = 0  # nobody else is seen in frame 4
    np.testing.assert_allclose(sample['keypoint'], expected, atol=1e-3)
    assert sample['keypoint_score'][1, 0, 0] == np.float32(0.8)
    for value in (np.nan, -np.inf, 1e7):
        people[0]['pose_keypoints_2d'][3] = value
        path.write_text(json.dumps(dict(people=people)))
        with pytest.raises(ValueError, match='clip_11_key.*_2d that are NaN'):
            read_recordings(tmp_path / 'clip')


# The demo


def test_folder_gives_a_table(demo, files, tmp_path):
    folder = tmp_path / 'raw'
    (folder / 'more').mkdir(parents=True)
    KINDS['ntu'][1](folder / NTU, body(persons=2))
    np.save(folder / 'more' / 'mine.npy', body(seed=1))
    (folder / 'broken.skeleton').write_text('no')
    (folder / 'README.md').write_text('no recording')
    for size in (1, 32):
        printed = demo(folder, '--out', f'{size}.csv', '--batch-size', size)
        assert re.search(r'accuracy: \d+\.00% \([01] of 1 whose', printed.out)
        assert "broken.skeleton: 'broken' names no" in printed.err
    tables = [read_csv(f'{size}.csv') for size in (1, 32)]
    assert tables[0] == tables[1]
    header, *rows = tables[0]
    assert header[:5] == ['file', 'name', 'true', 'top1', 'probability1']
    assert [row[:3] for row in rows] == [
        [NTU, NTU.split('.')[0], 'drink water'],
        ['more/mine.npy', 'mine', ''],
    ]
    found = SkeletonInferencer(*files)(body(seed=1))['predictions'][0]
    assert rows[1][3] == found['pred_class']
    assert float(rows[1][4]) == pytest.approx(
        max(found['pred_scores']), abs=1e-5
    )


def test_broken_samples_of_an_annotation_file_are_left_out(demo, tmp_path):
    samples = [synthetic.annotation(i, label=1) for i in range(5)]
    for sample in samples:
        sample['keypoint'] = body(20)
    samples[1]['keypoint'] = np.full((1, 20, 25, 3), np.nan)
    samples[2] = 'text'
    samples[4]['label'] = 9
    content = dict(split={}, annotations=samples, classes=CLASSES)
    synthetic.write(tmp_path / 'data.pkl', content)
    printed = demo('data.pkl', '--out', 'out.csv')
    assert [row[1] for row in read_csv('out.csv')[1:]] == ['S000', 'S003']
    for message in (
        "sample 'S001' has 1500 numbers",
        'sample 2 is a str, expected a dict',
        "sample 'S004' has label 9, but there are 6",
    ):
        assert f'left out: data.pkl: {message}' in printed.err
    synthetic.write(tmp_path / 'data.pkl', samples[1:3])
    with pytest.raises(SystemExit, match="error: data.pkl: sample 'S001' has"):
        demo('data.pkl')


def test_pictures_where_nobody_is_in_any_window(demo):
    values = body(60)
    values[:, :10], values[:, 50:] = 0, 0
    np.save('in.npy', values)
    windows = ['--window', '5', '--stride', '99']
    printed = demo('in.npy', *windows, '--out', 'out.png', 'out.gif').out
    assert printed.count('nobody') == 2
    with Image.open('out.gif') as image:
        assert image.n_frames == 60
    assert Image.open('out.png').size[0] > 500


def test_windows_and_pictures(demo):
    np.save('long.npy', body(40))
    printed = demo(
        *('long.npy', '--window', 16, '--stride', 12),
        *('--out', 'out.csv', 'out.png', 'out.gif'),
    ).out
    header, *rows = read_csv('out.csv')
    assert header == ['from', 'to', 'class', 'probability']
    assert [row[:2] for row in rows] == [
        ['1', '16'],
        ['13', '28'],
        ['25', '40'],
    ]
    assert f'{100 * float(rows[2][3]):.2f} %  {rows[2][2]}' in printed
    with Image.open('out.gif') as image:
        assert image.n_frames == 40
    assert Image.open('out.png').size[0] > 500


def test_animation_without_windows(demo):
    np.save('short.npy', body(2))
    demo('short.npy', '--out', 'out.gif')
    with Image.open('out.gif') as image:
        assert image.n_frames == 2


@pytest.mark.parametrize(
    ('write', 'options', 'message'),
    [
        (lambda p: None, [], 'there is no such file or folder'),
        (lambda p: p.write_text('{"a": 1}'), [], 'no array that could be'),
        (lambda p: np.save(p, np.zeros((0, 25, 3))), [], 'none of them 0'),
        (lambda p: np.save(p, body()[..., :2]), [], 'in.npy: xy .* --image-s'),
        (
            lambda p: np.save(p, body()),
            ['--out', 'x.mp4'],
            'needs the program ffmpeg',
        ),
        (
            lambda p: np.save(p, body()),
            ['--config', 'mamp_mmaction::no.py'],
            'there is no config',
        ),
        (
            lambda p: np.save(p, body()),
            ['--classes', 'names.txt'],
            'names 2 classes, but the head has num_classes=6',
        ),
        (lambda p: np.save(p, 1000 * body()), [], 'cannot be metres'),
    ],
)
def test_bad_input_is_one_line(
    demo, write, options, message, tmp_path, monkeypatch
):
    monkeypatch.setenv('PATH', str(tmp_path))
    write(tmp_path / 'in.npy')
    (tmp_path / 'names.txt').write_text('a\nb\n')
    with pytest.raises(SystemExit) as end:
        demo('in.npy', *options)
    assert re.search(f'^error: .*{message}', str(end.value))
    assert '\n' not in str(end.value)
    assert not (tmp_path / 'x.mp4').exists()
