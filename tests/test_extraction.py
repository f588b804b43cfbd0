"""Features of models, and tools/extract_features.py."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner
from processes import ROOT, run_successfully
from small_models import (
    HEATMAPS,
    D,
    encoder,
    gcn,
    gcn_head,
    mamp,
    posec3d,
    pretraining,
    recognition,
)
from synthetic import data_set, pixel_data, write

from mamp_mmaction.evaluation.extraction import (
    extract_features,
    ordered_dataloader,
    split_dataloader,
)
from mamp_mmaction.layouts import get_layout

CONFIGS = ROOT / 'configs'
TOOL = ROOT / 'tools' / 'extract_features.py'
PRETRAIN_CONFIG = next(CONFIGS.glob('mamp/toy/*-pretrain-*.py'))
STGCNPP_CONFIG = next(CONFIGS.glob('stgcnpp/*_toy-*.py'))
FRAMES = 24
ENCODER = encoder(num_frames=FRAMES, num_joints=25, drop_path_rate=0.5)
PRETRAINING = pretraining(ENCODER)
STGCN = recognition(gcn_head(5), gcn('stgcn'))
VOLUMES = posec3d(5)
RESIZE = dict(type='TemporalCropResize', num_frames=FRAMES, test_mode=True)
FORMAT = dict(type='FormatGCNInput', num_person=2)
PACK = dict(type='PackActionInputs', meta_keys=('frame_dir',))
SKELETONS = [dict(type='CenterSkeleton'), RESIZE, FORMAT, PACK]
TWO_CLIPS = [
    dict(type='UniformSampleFrames', clip_len=12, num_clips=2, test_mode=True),
    dict(type='PoseDecode'),
    FORMAT,
    dict(type='PackActionInputs'),  # without frame_dir
]


def loader_config(tmp_path, pipeline, data=None, **kwargs):
    dataset = dict(
        type='PoseDataset',
        ann_file=write(tmp_path / 'ann.pkl', data or data_set(10, 7)),
        split='xsub_train',
        pipeline=pipeline,
    )
    return dict(
        dict(batch_size=3, num_workers=0, dataset=dataset),
        **kwargs,
    )


def stacked(dataloader):
    """All inputs of a loader, in one tensor."""
    return torch.cat([torch.stack(batch['inputs']) for batch in dataloader])


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def backbone(model, inputs):
    """A backbone's output in eval mode, clips and samples apart again."""
    model.eval()
    with torch.no_grad():
        x = model.backbone(inputs.flatten(0, 1).float())
    return x.unflatten(0, inputs.shape[:2]).numpy()


@pytest.mark.parametrize(
    'model, pipeline, shape',
    [
        (PRETRAINING, SKELETONS, (2, 6, 25, D)),
        (STGCN, SKELETONS, (2, 6, 25, D)),
        (STGCN, TWO_CLIPS, None),
    ],
)
def test_skeleton_features(tmp_path, model, pipeline, shape):
    """Names, labels, averages, and tokens where there is one clip."""
    data = data_set(10, 7)
    model = MODELS.build(model)
    loader = ordered_dataloader(loader_config(tmp_path, pipeline, data))
    # (N, clips, M, D, T', V)
    maps = backbone(model, stacked(loader))
    found = extract_features(model, loader)
    train = data['annotations'][:7]
    assert found.names == [sample['frame_dir'] for sample in train]
    assert found.labels.tolist() == [sample['label'] for sample in train]
    assert_close(found.features, maps.mean(axis=(1, 2, 4, 5)))
    if shape is None:
        with pytest.raises(ValueError, match='2 clips.*num_clips=1'):
            extract_features(model, loader, per_token=True)
    else:
        tokens = extract_features(model, loader, per_token=True).features
        assert tokens.shape == (7, *shape)
        assert_close(tokens, maps[:, 0].transpose(0, 1, 3, 4, 2))


def test_posec3d_features(tmp_path):
    """Volumes (N * clips, D, T, H, W), and names that only the data has."""
    model = MODELS.build(VOLUMES)
    config = loader_config(tmp_path, HEATMAPS, pixel_data())
    loader = ordered_dataloader(config)
    maps = backbone(model, stacked(loader))  # (N, clips, D, T, H, W)
    assert maps.shape[:3] == (5, 2, 16)
    found = extract_features(model, loader)
    assert_close(found.features, maps.mean(axis=(1, 3, 4, 5)))
    assert found.names == [f'S{index:03}' for index in range(5)]

    config['dataset']['pipeline'] = [dict(HEATMAPS[0], num_clips=1)]
    config['dataset']['pipeline'] += HEATMAPS[1:]
    one_clip = ordered_dataloader(config)
    tokens = extract_features(model, one_clip, per_token=True).features
    maps = backbone(model, stacked(one_clip))
    assert_close(tokens, maps.transpose(0, 1, 3, 4, 5, 2))

    # Several feature maps are joined.
    single = model.backbone.forward
    model.backbone.forward = lambda x: (single(x), 2 * single(x)[:, :4])
    two, one = extract_features(model, loader).features, found.features
    assert_close(two, torch.cat([one, 2 * one[:, :4]], dim=1))


def test_modes_are_restored(tmp_path):
    """Whatever they were, also after an error; no gradient is kept."""
    model = MODELS.build(PRETRAINING).train()
    model.backbone.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    assert True in modes and False in modes
    config = loader_config(tmp_path, SKELETONS)
    features = extract_features(model, ordered_dataloader(config)).features
    assert not features.requires_grad
    assert [module.training for module in model.modules()] == modes
    again = extract_features(model, ordered_dataloader(config)).features
    assert torch.equal(features, again)  # in eval mode: no dropped path

    config['dataset']['pipeline'] = [dict(RESIZE, num_frames=20), FORMAT, PACK]
    with pytest.raises(ValueError, match='num_frames'):
        extract_features(model, ordered_dataloader(config))
    assert [module.training for module in model.modules()] == modes


def test_every_sample_is_taken_once_in_order(tmp_path):
    """A training loader's shuffling, cutting and repeating are undone."""
    config = loader_config(tmp_path, SKELETONS)
    plain = extract_features(
        MODELS.build(PRETRAINING), ordered_dataloader(config)
    )
    dataset = config['dataset']
    twice = dict(type='RepeatDataset', times=2, dataset=dataset)
    both = dict(type='ConcatDataset', datasets=[dataset, dict(twice)])
    for wrapped, repeats in ((twice, 1), (both, 2)):
        training = dict(
            config,
            dataset=wrapped,
            drop_last=True,
            sampler=dict(type='DefaultSampler', shuffle=True),
        )
        found = extract_features(
            MODELS.build(PRETRAINING), ordered_dataloader(training)
        )
        assert found.names == repeats * plain.names
    # A sample that its pipeline refuses must not be replaced by another.
    assert ordered_dataloader(config).dataset.test_mode
    assert wrapped['datasets'][1]['times'] == 2  # the config is left alone

    loader = Runner.build_dataloader(
        dict(config, sampler=dict(type='DefaultSampler', shuffle=True))
    )
    assert isinstance(loader.sampler, DefaultSampler)
    with pytest.raises(ValueError, match='shuffle=True.*ordered_dataloader'):
        extract_features(MODELS.build(PRETRAINING), loader)


def test_members_of_a_union_keep_their_own_joints(tmp_path):
    """Training data too, which else are extracted as validation data are."""
    part = loader_config(tmp_path, SKELETONS)['dataset']
    layouts = 'kinect_v1', 'nw_ucla'

    def union(number):
        return dict(
            type='ConcatDataset',
            datasets=[
                dict(
                    part,
                    pipeline=[
                        dict(type='MapJoints', source=x, target='utd_mhad'),
                        *(SKELETONS * number),
                    ],
                )
                for x in layouts
            ],
        )

    cfg = Config(
        dict(
            train_dataloader=dict(batch_size=2, dataset=union(2)),
            val_dataloader=dict(batch_size=2, dataset=union(1)),
        )
    )
    for split in ('train', 'val'):
        loader = split_dataloader(cfg, split)
        for member, layout in zip(loader.dataset.datasets, layouts):
            mapping, *others = member.pipeline.transforms
            assert mapping.source == layout
            assert len(others) == len(SKELETONS)


def test_labels_may_be_absent_but_not_in_part(tmp_path):
    data = data_set(10, 7)
    model = MODELS.build(PRETRAINING)
    del data['annotations'][3]['label']
    loader = ordered_dataloader(loader_config(tmp_path, SKELETONS, data))
    with pytest.raises(ValueError, match="1 of 7 .* 'S003'"):
        extract_features(model, loader)
    for sample in data['annotations']:
        sample.pop('label', None)
    loader = ordered_dataloader(loader_config(tmp_path, SKELETONS, data))
    assert extract_features(model, loader).labels is None


def test_models_and_data_that_give_no_features(tmp_path):
    config = loader_config(tmp_path, SKELETONS)
    loader = ordered_dataloader(config)
    model = MODELS.build(PRETRAINING)
    whole = model.backbone.forward
    model.backbone.forward = lambda x: whole(x).mean(dim=1)
    with pytest.raises(ValueError, match=r'expected .* \(3, 2\)'):
        extract_features(model, loader)
    del model.backbone
    with pytest.raises(ValueError, match='MAMP has no backbone'):
        extract_features(model, loader)
    config['dataset']['split'] = 'empty'
    data = data_set(10, 7)
    data['split']['empty'] = []
    write(tmp_path / 'ann.pkl', data)
    with pytest.raises(ValueError, match="no sample in .* split 'empty'"):
        ordered_dataloader(config)
    del config['dataset']
    with pytest.raises(ValueError, match="lacks 'dataset'"):
        ordered_dataloader(config)


def read(path):
    with np.load(path) as file:
        return dict(file)


@pytest.fixture
def toy(tmp_path):
    """Options that make the shipped toy configs small."""
    data = data_set(10, 7, frames=45)
    ann_file = write(tmp_path / 'toy.pkl', data)
    options = ['--device', 'cpu', '--cfg-options']
    for loader in ('train_dataloader', 'val_dataloader'):
        options += [
            f'{loader}.num_workers=0',
            f'{loader}.persistent_workers=False',
            f'{loader}.dataset.ann_file={ann_file}',
        ]
    options += ['model.backbone.embed_dims=16', 'model.backbone.num_heads=2']
    return data['annotations'], options


def save_backbone(path, **kwargs):
    """A checkpoint of a tiny encoder; returns the encoder's model."""
    shape = dict(depth=3, num_frames=40, num_joints=25)
    model = mamp(encoder(**dict(shape, **kwargs)))
    state = {
        key: value
        for key, value in model.state_dict().items()
        if key.startswith('backbone.')
    }
    torch.save(dict(state_dict=state), path)
    return model


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('extract_features')


@pytest.mark.parametrize('split', ['train', 'val'])
def test_tool_on_a_pretraining_config(tmp_path, tool, toy, capsys, split):
    """Pooled and per token; training samples are not augmented."""
    annotations, options = toy
    model = save_backbone(tmp_path / 'weights.pth')
    files = PRETRAIN_CONFIG, tmp_path / 'weights.pth', tmp_path / 'out.npz'
    arguments = [*map(str, files), '--split', split, '--batch-size', '3']
    tool.main(arguments + options)
    samples = annotations[:7] if split == 'train' else annotations[7:]
    printed = f'features of shape (16,) of {len(samples)} samples'
    assert printed in capsys.readouterr().out

    pipeline = [SKELETONS[0], dict(RESIZE, num_frames=40), FORMAT, PACK]
    config = loader_config(tmp_path, pipeline, data_set(10, 7, frames=45))
    config['dataset']['split'] = f'xsub_{split}'
    maps = backbone(model, stacked(ordered_dataloader(config)))[:, 0]
    found = read(tmp_path / 'out.npz')
    assert set(found) == {'features', 'names', 'labels'}
    assert found['names'].tolist() == [s['frame_dir'] for s in samples]
    assert found['labels'].tolist() == [s['label'] for s in samples]
    assert_close(found['features'], maps.mean(axis=(1, 3, 4)))
    tool.main([*arguments, '--per-token', *options])
    found = read(tmp_path / 'out.npz')['features']
    assert_close(found, maps.transpose(0, 1, 3, 4, 2))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {'ann.pkl', 'toy.pkl', 'weights.pth', 'out.npz'}


def test_tool_on_a_gcn_of_the_toolbox(tmp_path, tool, toy):
    """Random weights by seed; what RepeatDataset repeats is taken once."""
    annotations, options = toy
    options = [*options[:-2], 'model.backbone.base_channels=8']
    options += [
        f'train_dataloader.dataset.dataset.ann_file={tmp_path / "toy.pkl"}',
        'train_dataloader.dataset.times=3',
        'model.backbone.num_stages=2',
    ]

    def run(seed, *arguments):
        out = tmp_path / 'new folder' / 'out.npz'
        files = str(STGCNPP_CONFIG), 'none', str(out)
        tool.main((*files, '--seed', str(seed), *arguments, *options))
        return read(out)

    first = run(1, '--split', 'train')
    names = [sample['frame_dir'] for sample in annotations[:7]]
    assert first['names'].tolist() == names
    assert first['features'].shape == (7, 8)
    again = run(1, '--split', 'train')
    np.testing.assert_array_equal(first['features'], again['features'])
    other = run(2, '--split', 'train')
    assert not np.allclose(first['features'], other['features'])
    assert run(1, '--per-token')['features'].shape == (3, 2, 100, 25, 8)

    # The toolbox only warns of weights that it leaves random.
    weights = {'backbone.data_bn.bias': torch.zeros(75)}
    torch.save(dict(state_dict=weights), tmp_path / 'other.pth')
    files = STGCNPP_CONFIG, tmp_path / 'other.pth', tmp_path / 'out.npz'
    with pytest.raises(SystemExit, match='fit this STGCN: missing data_bn'):
        tool.main([*map(str, files), *options])


def test_tool_on_aagcn_without_weights(tmp_path):
    """Whose initialiser only the toolbox's engine knows."""
    joints = get_layout('msr_action3d').num_joints
    data = data_set(4, 2, joints=joints, frames=30)
    for split in ('train', 'val', 'test'):
        data['split'][split] = data['split']['xsub_val']
    loader = loader_config(tmp_path, [], data)
    config = next(CONFIGS.glob('aagcn/*-scratch-*'))
    said = run_successfully(
        *(TOOL, config, 'none', 'out.npz', '--device', 'cpu'),
        '--cfg-options',
        f'val_dataloader.dataset.ann_file={loader["dataset"]["ann_file"]}',
        *('val_dataloader.num_workers=0', 'model.backbone.base_channels=4'),
        'val_dataloader.persistent_workers=False',
    )
    assert read('out.npz')['features'].shape == (2, 16)
    assert 'MultiScaleDeformableAttention' not in said
    assert 'init_weights' not in said


def test_tool_on_posec3d(tmp_path, tool):
    """A config without labels in its data, read by a worker process."""
    data = pixel_data()
    for sample in data['annotations']:
        del sample['label']
    loader = loader_config(tmp_path, HEATMAPS, data, num_workers=1)
    config = tmp_path / 'posec3d.py'
    config.write_text(f'model = {VOLUMES!r}\ntest_dataloader = {loader!r}\n')
    out = str(tmp_path / 'out.npz')
    arguments = [str(config), 'none', out, '--split', 'test']
    tool.main([*arguments, '--device', 'cpu'])
    found = read(out)
    assert set(found) == {'features', 'names'}
    assert found['features'].shape == (5, 16)
    assert found['names'].tolist() == [f'S{index:03}' for index in range(5)]


NO_JOINT = 'val_dataloader.dataset.pipeline.0.center_joint=30'


@pytest.mark.parametrize(
    'message, weights, more',
    [
        ('does not exist', 'absent.pth', []),
        ('text.pth cannot be read', 'text.pth', []),
        ('wide.pth: does not fit .* 32', 'wide.pth', []),
        ('empty.pth', 'empty.pth', []),
        ("no split 'mine'", 'none', ['val_dataloader.dataset.split=mine']),
        ('Unheard', 'none', ['model.backbone.type=Unheard']),
        (
            'center_joint=30',
            'none',
            [NO_JOINT, 'val_dataloader.num_workers=1'],
        ),
        ('no val_dataloader; it has none', 'none', 'model.json'),
        ('loaders.py has no model', 'none', f'{CONFIGS}/_base_/loaders.py'),
        ('absent.py', 'none', 'absent.py'),
        ("device 'cuda:99' cannot be used", 'none', '--device'),
    ],
)
def test_tool_says_in_a_line_what_is_wrong(
    tmp_path, tool, toy, message, weights, more
):
    """And leaves the file that was there."""
    _, options = toy
    if weights == 'wide.pth':
        save_backbone(weights, embed_dims=32)
    torch.save(dict(state_dict={}), 'empty.pth')
    Path('text.pth').write_text('no weights')
    Path('model.json').write_text(json.dumps(dict(model=PRETRAINING)))
    config = PRETRAIN_CONFIG
    if more == '--device':
        options = ['--device', 'cuda:99']
    elif isinstance(more, str):
        config, options = more, ['--device', 'cpu']
    else:
        options = [*options, *more]
    out = tmp_path / 'out.npz'
    out.write_bytes(b'old')
    with pytest.raises(SystemExit, match=f'^error: .*{message}') as stopped:
        tool.main([str(config), weights, str(out), *options])
    assert '\n' not in stopped.value.code
    assert out.read_bytes() == b'old'
    assert not list(tmp_path.glob('.*tmp*'))
