"""Every config as data, and one of each protocol built and stepped.

The tables below were typed from the paper's recipes, not read from the
configs: a number that changes there must be changed here on purpose.
"""

import argparse
import copy
import itertools
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS, TRANSFORMS
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from processes import ROOT
from synthetic import annotation, write

from mamp_mmaction.config import check_settings, use_dataset
from mamp_mmaction.layouts import LAYOUTS, get_layout, register_layout

pytestmark = pytest.mark.usefixtures('plain_config_text')
CONFIGS = ROOT / 'configs'
CARD = (CONFIGS / 'mamp' / 'README.md').read_text()
ALL = sorted(p for p in CONFIGS.rglob('*.py') if '_base_' not in p.parts)
FOLDERS = ('ntu60', 'ntu120', 'pku1', 'pku2')
# Options beyond the paper: what each changes in the model, and in the mask.
VARIANTS = {
    'nat': (dict(head=dict(target='joint', norm_target='clip')), {}),
    'accel': (dict(head=dict(target=dict(motion=0.8, acceleration=0.2))), {}),
    'latent': (dict(head=dict(type='LatentPredictionHead')), {}),
    'tube': ({}, dict(tube=3)),
    'limb': ({}, dict(tube=3, part='limb')),
    'cross': (dict(neck=dict(attention='cross')), {}),
    'fast': (dict(decode_ratio=0.25, neck=dict(attention='cross')), {}),
}
VARIED = re.compile(rf'\S+-pretrain-({"|".join(VARIANTS)})-\S+')
VARIED_FILES = [path for path in ALL if VARIED.match(path.stem)]
FILES = [
    path
    for path in ALL
    if path.parent.name in FOLDERS and path not in VARIED_FILES
]
SIZES = re.compile(r'(\w+?)_(\d)xb(\d+)-([a-z]+)\S*-(\d+)e_')
PARTS, LOADER = ('train', 'val', 'test'), '_dataloader'
NAME = re.compile(
    r'mamp_(?P<gpus>\d)xb(?P<batch>\d+)-'
    r'(?P<protocol>pretrain|mae|linear|finetune|scratch|semi1|semi10|transfer)'
    r'(-(?P<stream>bone|motion))?-(?P<epochs>\d+)e_'
    r'(?P<data>(ntu60|ntu120|pku1|pku2)-(xsub|xview|xset))'
    r'(-from-(?P<source>\w+-\w+))?-keypoint-(?P<dims>[23])d'
)

# data set: classes, how a missing second person is filled, centre joint,
# temperature of the mask, blocks of the decoder, and the probe's batch size,
# learning rate and first epoch.
DATA = {
    'ntu60': (60, 'zero', 1, 0.80, 3, (256, 0.1, 400)),
    'ntu120': (120, 'loop', 1, 0.75, 5, (256, 0.1, 400)),
    'pku1': (51, 'zero', None, 0.80, 5, (128, 0.1, 301)),
    'pku2': (51, 'zero', None, 0.80, 5, (32, 0.01, 301)),
}
# protocol: epochs, warm-up, total batch, optimiser, betas or momentum,
# weight decay, lr, min lr, layer decay, drop path, label smoothing
ADAMW, SGD = 'AdamW', 'SGD'
PRETRAIN = (400, 20, 128, ADAMW, (0.9, 0.95), 0.05, 1e-3, 5e-4, 1.0, 0, None)
FINETUNE = (100, 5, 48, ADAMW, (0.9, 0.999), 0.05, 3e-4, 1e-5, 0.8, 0.3, 0.1)
SCRATCH = (100, 5, 48, ADAMW, (0.9, 0.999), 0.05, 3e-4, 1e-5, 1.0, 0.3, 0.1)
LINEAR = (100, 0, None, SGD, 0.9, 0, None, 0, None, 0, 0)
RECIPES = {
    'pretrain': PRETRAIN,
    'mae': PRETRAIN,
    'linear': LINEAR,
    'finetune': FINETUNE,
    'scratch': SCRATCH,
    'semi1': FINETUNE,
    'semi10': FINETUNE,
    'transfer': FINETUNE,
}
STREAMS = {'bone': 'bone', 'motion': 'joint_motion'}
every_config = pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)


@cache
def loaded(path):
    return Config.fromfile(path)


def config(pattern):
    """The config of this name, as a copy."""
    (path,) = CONFIGS.rglob(f'{pattern}.py')
    return copy.deepcopy(loaded(path))


def describe(path):
    """What the file's name says."""
    match = NAME.fullmatch(path.stem)
    assert match, f'{path.name} is not named by the rule'
    named = match.groupdict()
    named['folder'], named['split'] = named['data'].split('-')
    assert named['folder'] == path.parent.name
    return named


def members(dataloader):
    """The configs of the data sets of a dataloader, out of their wrapper."""
    dataset = dataloader.dataset
    return dataset.get('datasets', [dataset.get('dataset', dataset)])


def steps(dataloader):
    """The transforms of a dataloader by type."""
    return {step['type']: step for step in members(dataloader)[0].pipeline}


@every_config
def test_every_config(path, monkeypatch):
    """What holds for all of them."""
    # Nothing is warned of.
    monkeypatch.delattr('mamp_mmaction.config.print_log')
    cfg = loaded(path)
    _, processes, batch, protocol, epochs = SIZES.match(path.stem).groups()
    assert cfg.train_cfg.max_epochs == int(epochs)
    assert cfg.train_dataloader.batch_size == int(batch)
    total = int(processes) * int(batch)
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=total)
    tested = members(cfg.test_dataloader)
    # Samples of a union's members differ in their layouts, not those of users.
    pipeline = tested[0].pipeline[len(tested) > 1 :]
    for step, same in zip(cfg.test_pipeline, pipeline, strict=True):
        step.pop('_scope_', None)  # of the toolbox's configs
        assert step == same
    assert cfg.custom_imports.imports == ['mamp_mmaction']
    # The toolbox's own configs know nothing of the check.
    if 'u100' not in path.stem:
        assert cfg.default_hooks.check_settings.type == 'CheckSettingsHook'
        check_settings(cfg)
    for part in PARTS:
        for dataset in members(cfg[f'{part}_dataloader']):
            for step in dataset.pipeline:
                TRANSFORMS.build(step)
    starts = protocol in ('linear', 'finetune', 'semi', 'transfer')
    assert (cfg.load_from is not None) == starts
    if starts:
        check_start(cfg)


def check_start(cfg):
    """The weights to start from are those another config leaves."""
    start = Path(cfg.load_from)
    shipped = start.is_absolute()
    folder = start.stem if shipped else start.parent.name
    assert '-pretrain-' in folder
    source = loaded(next(path for path in ALL if path.stem == folder))
    if shipped:
        assert start.exists()
    else:
        check_epoch(source, start)
    # What they were trained on and what they are put into are alike.
    for key in ('type', 'num_joints', 'in_channels', 'embed_dims', 'depth'):
        there, here = source.model.backbone, cfg.model.backbone
        assert there.get(key) == here.get(key)


def check_epoch(source, start):
    assert start.parts[0] == 'work_dirs'
    epoch = int(re.fullmatch(r'epoch_(\d+)\.pth', start.name).group(1))
    assert epoch <= source.train_cfg.max_epochs
    intervals = [source.default_hooks.checkpoint.interval]
    intervals += [h.interval for h in source.get('custom_hooks', [])]
    assert epoch == source.train_cfg.max_epochs or any(
        epoch % interval == 0 for interval in intervals
    )


@pytest.mark.parametrize(
    'path',
    [path for path in ALL if 'u100' not in path.stem],
    ids=lambda path: path.stem,
)
def test_what_is_said_twice_agrees(path):
    cfg = loaded(path)
    loaders = [cfg[f'{part}_dataloader'] for part in PARTS]
    backbone = cfg.model.backbone
    sized = cfg.model.get('neck', cfg.model.get('motion_neck'))
    if 'graph_cfg' not in backbone:
        sized = backbone
    if sized is not None:
        for loader in loaders:
            crop = steps(loader)['TemporalCropResize']
            assert crop.num_frames == sized.num_frames
    joints = backbone.get('graph_cfg', {}).get('layout', {}).get('num_node')
    assert sized is None or joints in (None, sized.num_joints)
    persons = {
        steps(loader)['FormatGCNInput'].num_person for loader in loaders
    }
    assert len(persons) == 1
    assert backbone.get('num_person') in (None, *persons)
    named = [
        [(data.ann_file, data.get('num_classes')) for data in members(loader)]
        for loader in loaders
    ]
    assert named[0] == named[1] == named[2]
    classes = {number for _, number in named[0]}
    if 'cls_head' in cfg.model:
        head = cfg.model.cls_head
        assert {head.num_classes} == classes
        assert head.get('num_joints', backbone.get('num_joints')) == (
            backbone.get('num_joints')
        )


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_recipe_of_the_paper(path):
    named = describe(path)
    cfg = loaded(path)
    check_data(cfg, named)
    check_recipe(cfg, named)
    check_weights(cfg, named)
    check_model(cfg.model, named)


def check_data(cfg, named):
    classes, fill, center, tau, _, _ = DATA[named['folder']]
    if named['dims'] == '2':
        center = None
    for part, loader in (
        ('train', cfg.train_dataloader),
        ('val', cfg.val_dataloader),
        ('val', cfg.test_dataloader),
    ):
        assert loader.dataset.split == f'{named["split"]}_{part}'
        assert loader.dataset.num_classes == classes
        assert f'{named["folder"]}_{named["dims"]}d' in loader.dataset.ann_file
        transforms = steps(loader)
        assert transforms['CenterSkeleton']['center_joint'] == center
        assert transforms['TemporalCropResize']['num_frames'] == 120
        assert transforms['FormatGCNInput'].get('mode', 'zero') == fill
        assert transforms['FormatGCNInput']['num_person'] == 2
        in_3d = named['dims'] == '3'
        assert ('RandomRotate3D' in transforms) == (part == 'train' and in_3d)
        assert ('ScaleToImage' in transforms) != in_3d
        crop = transforms['TemporalCropResize'].get('test_mode', False)
        assert crop == (part == 'val')
        stream = transforms.get('SkeletonStream', {}).get('stream')
        assert stream == STREAMS.get(named['stream'])
        if named['protocol'] in ('pretrain', 'mae'):
            mask = transforms['MotionAwareMask']
            expected = tau if named['protocol'] == 'pretrain' else 0
            assert (mask['mask_ratio'], mask['tau']) == (0.9, expected)
            assert ('seed' in mask) == (part == 'val')
            assert mask.get('num_coords') == (None if in_3d else 2)
        else:
            assert 'MotionAwareMask' not in transforms
    assert cfg.train_dataloader.drop_last
    ratio = {'semi1': 0.01, 'semi10': 0.1}.get(named['protocol'])
    assert cfg.train_dataloader.dataset.get('label_ratio') == ratio


def check_recipe(cfg, named):
    epochs, warmup, batch, optimizer, beta, decay, lr, min_lr, layer_decay = (
        RECIPES[named['protocol']][:9]
    )
    if named['protocol'] == 'linear':
        batch, lr, _ = DATA[named['folder']][5]
    assert int(named['epochs']) == epochs
    assert cfg.param_scheduler.type == 'WarmupCosineLR'
    assert cfg.param_scheduler.warmup == warmup
    assert cfg.param_scheduler.min_lr == min_lr
    assert cfg.param_scheduler.convert_to_iter_based
    assert int(named['gpus']) * int(named['batch']) == batch
    wrapper = cfg.optim_wrapper
    assert wrapper.type == 'OptimWrapper' and 'clip_grad' not in wrapper
    optim = wrapper.optimizer
    assert optim.type == optimizer and not optim.get('nesterov')
    assert optim.get('betas', optim.get('momentum')) == beta
    assert (optim.lr, optim.weight_decay) == (lr, decay)
    if layer_decay is not None:
        assert wrapper.constructor == 'MAMPLayerDecayConstructor'
        given = wrapper.get('paramwise_cfg', {}).get('layer_decay', 1.0)
        assert given == layer_decay
    hooks = [hook.type for hook in cfg.get('custom_hooks', [])]
    assert ('LinearProbeHook' in hooks) == (named['protocol'] == 'linear')


def check_weights(cfg, named):
    if cfg.load_from is None:
        return
    folder, file = Path(cfg.load_from).parts[1:]
    told = describe(next(path for path in FILES if path.stem == folder))
    assert (told['stream'], told['dims']) == (named['stream'], named['dims'])
    assert told['data'] == (named['source'] or named['data'])
    epoch = 400
    if named['protocol'] == 'linear' or named['source'] == 'pku1-xsub':
        epoch = DATA[told['folder']][5][2]
    assert file == f'epoch_{epoch}.pth'


def check_model(model, named):
    classes, *_, decoder, _ = DATA[named['folder']]
    drop_path, smoothing = RECIPES[named['protocol']][9:]
    joints = 25 if named['dims'] == '3' else 17
    backbone = dict(model.backbone)
    assert backbone.pop('drop_path_rate', 0) == drop_path
    # All else is the default, which test_metafiles.py holds to the paper.
    coords = dict(num_coords=2) if named['dims'] == '2' else {}
    assert backbone == dict(
        type='MAMPTransformer', num_frames=120, num_joints=joints, **coords
    )
    if named['protocol'] in ('pretrain', 'mae'):
        assert model.type == 'MAMP'
        assert model.neck.get('depth', 5) == decoder
        target = 'motion' if named['protocol'] == 'pretrain' else 'joint'
        head = dict(type='MotionPredictionHead', target=target, **coords)
        assert model.head == head
    else:
        assert model.type == 'RecognizerGCN'
        assert model.cls_head.num_classes == classes
        assert model.cls_head.get('label_smooth_eps', 0) == smoothing


# Data sets of the first Kinect: classes, layout of the file, epochs and
# warm-up of pre-training, epochs of classifiers.
KINECT = {
    'msr-action3d-xsub': (20, 'msr_action3d', 300, 20, 100),
    'nw-ucla-xview': (10, 'nw_ucla', 80, 5, 30),
    'utd-mhad-xsub': (27, 'utd_mhad', 200, 13, 70),
}
UNION = 'mamp_1xb8-pretrain-60e_kinect-v1-keypoint-3d'
SPINE = {'msr_action3d': 3, 'nw_ucla': 1, 'utd_mhad': 2, 'kinect_v1': 1}


def check_small(cfg, masked, ratio=0.75):
    """Network and pipelines of sequences as short as these."""
    transformer = dict(
        type='MAMPTransformer',
        embed_dims=128,
        depth=4,
        num_frames=40,
        num_joints=20,
    )
    backbone = dict(cfg.model.backbone)
    backbone.pop('drop_path_rate', None)
    assert backbone == transformer
    if masked:
        assert cfg.model.neck == dict(
            type='MAMPDecoder', decoder_embed_dims=128, depth=2
        )
    for part in PARTS:
        for data in members(cfg[f'{part}_dataloader']):
            transforms = {step.type: step for step in data.pipeline}
            assert transforms['TemporalCropResize'].num_frames == 40
            assert transforms['TemporalCropResize'].min_crop_frames == 16
            assert transforms['FormatGCNInput'].num_person == 1
            assert ('MotionAwareMask' in transforms) == masked
            if masked:
                assert transforms['MotionAwareMask'].mask_ratio == ratio


@pytest.mark.parametrize(
    'data, protocol',
    [
        *itertools.product(
            KINECT, ('pretrain', 'mae', 'linear', 'finetune', 'scratch')
        ),
        ('nw-ucla-xview', 'semi5'),
        ('utd-mhad-xsub', 'semi5'),
    ],
)
def test_recipe_of_the_first_kinects_data(data, protocol):
    classes, layout, pretrain, warmup, classify = KINECT[data]
    masked = protocol in ('pretrain', 'mae')
    semi = protocol == 'semi5'
    epochs = pretrain if masked else 100 if semi else classify
    batch = 8 if semi else 32
    cfg = config(f'mamp_1xb{batch}-{protocol}-{epochs}e_{data}-keypoint-3d')
    check_small(cfg, masked)
    for part, loader in ((part, cfg[f'{part}_dataloader']) for part in PARTS):
        (dataset,) = members(loader)
        assert dataset.ann_file == f'data/{layout}.pkl'
        assert dataset.num_classes == classes
        ending = 'train' if part == 'train' else 'val'
        assert dataset.split == f'{data.split("-")[-1]}_{ending}'
        assert dataset.pipeline[0] == dict(
            type='CenterSkeleton', center_joint=SPINE[layout]
        )
        if masked:
            tau = steps(loader)['MotionAwareMask'].tau
            assert tau == (0.8 if protocol == 'pretrain' else 0)
    train = cfg.train_dataloader.dataset
    assert train.get('label_ratio') == (0.05 if semi else None)
    assert train.get('label_balanced') == (semi or None)
    start = f'work_dirs/mamp_1xb32-pretrain-{pretrain}e_{data}-keypoint-3d'
    if masked or protocol == 'scratch':
        assert cfg.load_from is None
    else:
        assert cfg.load_from == f'{start}/epoch_{pretrain}.pth'
    wrapper = cfg.optim_wrapper
    if protocol == 'linear':
        assert wrapper.type == 'OptimWrapper' and wrapper.optimizer.lr == 0.1
        return
    assert wrapper.type == 'AutoAmpOptimWrapper'
    assert wrapper.optimizer.lr == 1e-3
    assert cfg.param_scheduler.warmup == (warmup if masked else 5)
    assert cfg.param_scheduler.min_lr == (5e-4 if masked else 3e-5)
    if masked:
        target = 'motion' if protocol == 'pretrain' else 'joint'
        assert cfg.model.head == dict(
            type='MotionPredictionHead', target=target
        )
    else:
        assert wrapper.paramwise_cfg.layer_decay == 1


def test_the_union_is_of_the_training_splits_in_one_order():
    cfg = config(UNION)
    check_small(cfg, masked=True, ratio=0.9)
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler.warmup) == (60, 3)
    for part in PARTS:
        assert cfg[f'{part}_dataloader'].dataset.type == 'ConcatDataset'
        ending = 'train' if part == 'train' else 'val'
        for dataset, (data, (_, layout, *_)) in zip(
            members(cfg[f'{part}_dataloader']), KINECT.items(), strict=True
        ):
            assert dataset.ann_file == f'data/{layout}.pkl'
            assert dataset.split == f'{data.split("-")[-1]}_{ending}'
            assert dataset.pipeline[:2] == [
                dict(type='MapJoints', source=layout, target='kinect_v1'),
                dict(type='CenterSkeleton', center_joint=1),
            ]


@pytest.mark.parametrize('data', KINECT)
@pytest.mark.parametrize('protocol', ['linear', 'finetune'])
def test_classifiers_from_the_union(data, protocol):
    _, layout, _, _, epochs = KINECT[data]
    name = f'mamp_1xb32-{protocol}-{epochs}e_{data}'
    cfg = config(f'{name}-from-kinect-v1-keypoint-3d')
    long = UNION.replace('pretrain-60e', 'pretrain-long-300e')
    shipped = Path(cfg.pop('load_from')).resolve()
    assert shipped == CONFIGS / f'mamp/kinect-v1/{long}.pth'
    # All else is as after a pre-training on the data set alone.
    own = config(f'{name}-keypoint-3d')
    own.pop('load_from')
    layouts = [its.pop('model_layout') for its in (cfg, own)]
    assert layouts == ['kinect_v1', layout]
    for part in PARTS:
        pipeline = cfg[f'{part}_dataloader'].dataset.pipeline
        step = pipeline.pop(0)
        assert step == dict(
            type='MapJoints', source=layout, target='kinect_v1'
        )
        assert pipeline[0].pop('center_joint') == 1
        own[f'{part}_dataloader'].dataset.pipeline[0].pop('center_joint')
    cfg.pop('test_pipeline'), own.pop('test_pipeline')
    assert cfg.to_dict() == own.to_dict()


@pytest.mark.parametrize('path', VARIED_FILES, ids=lambda path: path.stem)
def test_a_variant_differs_in_its_option_alone(path):
    variant = VARIED.match(path.stem).group(1)
    model, mask = VARIANTS[variant]
    if 'part' in mask:
        layout = path.parent.name.replace('-', '_')
        mask = dict(mask, layout={'ntu60': 'nturgb+d'}.get(layout, layout))
    # Those of the union are of its fast recipe.
    fast = 'kinect' in path.stem and variant != 'fast'
    base = 'pretrain-fast' if fast else 'pretrain'
    expected = config(path.stem.replace(f'pretrain-{variant}', base))
    for key, change in model.items():
        if isinstance(change, dict) and 'type' not in change:
            change = dict(expected.model[key], **change)
        expected.model[key] = change
    pipelines = [expected.test_pipeline]
    for part in PARTS:
        pipelines += [x.pipeline for x in members(expected[part + LOADER])]
    for step in itertools.chain(*pipelines):
        if step.type == 'MotionAwareMask':
            step.update(mask)
    assert config(path.stem).to_dict() == expected.to_dict()
    text = path.read_text()
    assert 'source: ' in text and len(text.splitlines()) <= 10


def test_the_recommended_recipe_is_what_the_study_found_best():
    expected = config(UNION.replace('pretrain', 'pretrain-mask75'))
    expected.model.head.loss_weight = 'motion'
    found = config(UNION.replace('pretrain', 'pretrain-recommended'))
    assert found.to_dict() == expected.to_dict()


def test_the_options_page_names_the_variants():
    table = (ROOT / 'docs' / 'options.md').read_text()
    named = {*re.findall(r'\| `pretrain-(\w+)` \|', table)}
    assert named == {*VARIANTS, 'weighted'}


# Built and stepped.
COUNTER = itertools.count()


def made_data(path, joints=25, channels=3, classes=5):
    """40 samples in all splits; 2D ones are pixels with confidence."""
    shape = dict(joints=joints, channels=channels, classes=classes)
    samples = [
        annotation(i, persons=1 + i % 2, frames=40 + i, **shape)
        for i in range(40)
    ]
    for sample in samples:
        if channels == 2:
            keypoint = sample['keypoint']
            score = np.random.rand(*keypoint.shape[:3]).astype(np.float32)
            sample.update(
                keypoint=100 * keypoint + 500,
                keypoint_score=score,
                img_shape=(1080, 1920),
            )
    names = [sample['frame_dir'] for sample in samples]
    splits = ('xsub_train', 'xsub_val', 'xview_train', 'xview_val')
    split = dict.fromkeys(splits, names)
    return write(path, dict(split=split, annotations=samples))


def shrink(cfg):
    """The same model, small."""
    model, width = cfg.model, 32
    if model.backbone.type == 'MAMPTransformer':
        model.backbone.update(embed_dims=width, depth=1, num_heads=2)
        model.backbone.pop('drop_path_rate', None)
    else:  # a GCN, whose last stage is four times as wide as the first
        model.backbone.base_channels = width // 4
    for key in {'neck', 'motion_neck'} & model.keys():
        model[key].update(decoder_embed_dims=width, depth=1)
        if 'embed_dims' in model[key]:
            model[key].embed_dims = width
    if 'cls_head' in model:
        model.cls_head.in_channels = width
    return cfg


def build_runner(cfg, ann_file=None):
    """A runner of two samples a batch."""
    for part in PARTS:
        loader = cfg[f'{part}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        if ann_file is not None:
            for dataset in members(loader):
                dataset.ann_file = ann_file
    cfg.update(work_dir='work', log_level='ERROR')
    cfg.experiment_name = f'test_{next(COUNTER)}'
    return Runner.from_cfg(cfg)


def train_and_evaluate_once(runner):
    """One iteration and one evaluation, two samples each."""
    loop = runner.build_train_loop(runner._train_loop)
    runner._train_loop = loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = runner.build_param_scheduler(
        runner.param_schedulers
    )
    model, optim_wrapper = runner.model, runner.optim_wrapper
    # The first step of a warm-up moves nothing: take the third.
    for _ in range(2):
        optim_wrapper.step()
        runner.param_schedulers[0].step()
    before = [param.detach().clone() for param in model.parameters()]
    model.train()
    losses = model.train_step(next(iter(loop.dataloader)), optim_wrapper)
    assert torch.isfinite(losses['loss'])
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters())]
    # Gates of AAGCN start at zero, and what feeds them then stands still.
    assert np.mean(moved) > 0.8

    model.eval()
    val_loop = runner.build_val_loop(runner._val_loop)
    data = next(iter(val_loop.dataloader))
    with torch.no_grad():
        outputs = model.val_step(data)
    val_loop.evaluator.process(data_samples=outputs, data_batch=data)
    return val_loop.evaluator.evaluate(len(outputs))


@pytest.mark.parametrize(
    'name, joints, channels',
    [
        *(
            (f'mamp_*-{protocol}_ntu60-xsub-keypoint-3d', 25, 3)
            for protocol in (
                *('pretrain-400e', 'mae-400e', 'pretrain-bone-400e'),
                *('linear-100e', 'finetune-100e', 'scratch-100e'),
                'semi10-100e',
            )
        ),
        *(
            (f'mamp_*-{protocol}-*_ntu60-xsub-keypoint-2d', 17, 2)
            for protocol in ('pretrain', 'linear', 'finetune')
        ),
        (UNION, 20, 3),
        *((path.stem, 20, 3) for path in VARIED_FILES if '_msr-' in path.stem),
        ('mamp_*-semi5-*_utd-mhad-xsub-*', 20, 3),
        ('mamp_*-linear-*_nw-ucla-xview-from-kinect-v1-*', 20, 3),
        ('stgcn_*-pretrain-*', 20, 3),
        ('stgcn_*-scratch-*', 20, 3),
        ('stgcnpp_*-auxiliary-*_msr-action3d-*', 20, 3),
        ('aagcn_*-pretrain-*', 20, 3),
    ],
)
def test_one_step_of_each_protocol(name, joints, channels, tmp_path):
    cfg = shrink(config(name))
    data = made_data(tmp_path / 'ann.pkl', joints, channels)
    metrics = train_and_evaluate_once(build_runner(cfg, data))
    if 'acc/top1' in metrics:
        assert 0 <= metrics['acc/top1'] <= metrics['acc/top5'] <= 1
    else:
        # Normalised over the clip, 1 is the mean of all tokens: that of the
        # masked three quarters, which move more, may be larger.
        limit = 4 / 3 if cfg.model.head.get('norm_target') == 'clip' else 1
        assert 0 < metrics['masked_motion/zero_mse'] < limit


ABLATIONS = re.findall(r'^\| ([\w ]+) \| `(.*=.*)` \|$', CARD, re.M)


def cfg_options(text):
    """The dict of what follows ``--cfg-options``."""
    namespace = argparse.Namespace()
    action = DictAction(['--cfg-options'], 'options')
    action(None, namespace, text.split())
    return namespace.options


@pytest.mark.parametrize('what, options', ABLATIONS, ids=str.split)
def test_documented_ablation(what, options):
    cfg = shrink(config('mamp_*-pretrain-400e_ntu60-xsub-keypoint-3d'))
    before = cfg.copy()
    cfg.merge_from_dict(cfg_options(options))
    assert cfg.model != before.model or (
        cfg.train_dataloader != before.train_dataloader
        and cfg.val_dataloader != before.val_dataloader
    )
    MODELS.build(cfg.model)
    for part in PARTS:
        for step in cfg[f'{part}_dataloader'].dataset.pipeline:
            TRANSFORMS.build(step)


# Data sets of a user's own.

TOY = 'mamp_mmaction::mamp/toy/mamp_1xb32-{}_toy-xsub-keypoint-3d.py'
CHILD = """
_base_ = {base!r}

from mamp_mmaction.config import use_dataset

use_dataset(_base_, {options})
"""


def child(folder, base, options):
    """A config that puts a data set into another."""
    path = folder / 'child.py'
    path.write_text(CHILD.format(base=base, options=options))
    return Config.fromfile(path)


@pytest.fixture
def unseen_layout():
    """The joints of MSR-Action3D in another order, as a new layout."""
    known = get_layout('msr_action3d')
    rows = [
        (name, known.joint_names[parent])
        for name, parent in zip(known.joint_names, known.parents)
    ]
    register_layout('reversed', origin='hip_center', joints=rows[::-1])
    yield 'reversed'
    del LAYOUTS['reversed']


@pytest.mark.parametrize(
    'base',
    [
        TOY.format('pretrain-60e'),
        TOY.format('finetune-20e'),
        'mamp_mmaction::stgcn/stgcn_1xb32-pretrain-100e_msr-action3d-xsub-keypoint-3d.py',
    ],
)
def test_a_new_data_set_by_three_words(base, tmp_path, unseen_layout):
    data = made_data(tmp_path / 'mine.pkl', joints=20, classes=7)
    cfg = child(
        tmp_path,
        base,
        f"ann_file={data!r}, num_classes=7, layout='{unseen_layout}'",
    )
    check_settings(cfg)
    origin = get_layout(unseen_layout).origin
    for part in PARTS:
        dataset = cfg[f'{part}_dataloader'].dataset
        assert (dataset.ann_file, dataset.num_classes) == (data, 7)
        assert dataset.pipeline[0].center_joint == origin == 13
    assert cfg.test_pipeline == cfg.test_dataloader.dataset.pipeline
    if 'cls_head' in cfg.model:
        assert cfg.model.cls_head.num_classes == 7
        assert cfg.model.cls_head.num_joints == 20
    graph = cfg.model.backbone.get('graph_cfg')
    assert graph is None or graph.layout == get_layout(unseen_layout).graph()
    train_and_evaluate_once(build_runner(shrink(cfg)))


def blocks(text):
    """The files that a document prints, by name."""
    return dict(re.findall(r'```python\n# (my_\w+\.py)\n(.*?)```', text, re.S))


BLOCKS = blocks(CARD)
EXAMPLES = {}
for _name in ('extending', 'recognisers'):
    EXAMPLES |= blocks((ROOT / 'docs' / f'{_name}.md').read_text())


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """The model card's files, in a folder."""
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    made_data(tmp_path / 'data' / 'mine.pkl', joints=4, classes=7)
    yield tmp_path
    sys.modules.pop('my_layout', None)
    LAYOUTS.pop('my_trunk', None)


@pytest.mark.parametrize(
    'protocol', ['pretrain', 'mae', 'finetune', 'scratch']
)
def test_documented_data_set_file(documented, protocol):
    cfg = Config.fromfile(f'my_{protocol}.py')
    assert 'my_layout' in cfg.custom_imports.imports
    assert cfg.val_dataloader.dataset.split == 'xsub_val'
    assert cfg.model.backbone.num_joints == 4
    assert (cfg.load_from is None) == (protocol != 'finetune')
    if protocol == 'mae':
        assert steps(cfg.train_dataloader)['MotionAwareMask'].tau == 0
    if protocol == 'scratch':
        assert cfg.optim_wrapper.paramwise_cfg.layer_decay == 1
    check_settings(cfg)
    train_and_evaluate_once(build_runner(shrink(cfg)))


def test_documented_union_and_probe(documented):
    union, probe = map(Config.fromfile, ('my_union.py', 'my_probe.py'))
    check_settings(union), check_settings(probe)
    mine = ('data/mine.pkl', 'nturgb+d', 'kinect_v1')
    assert mapped(union) == [mine, ('data/old.pkl', 'nw_ucla', 'kinect_v1')]
    assert mapped(probe) == [mine]
    here, there = probe.model.backbone, union.model.backbone
    assert here == there
    assert probe.load_from.endswith(f'{union.train_cfg.max_epochs}.pth')


def test_documented_child_and_command_line(documented):
    cfg = Config.fromfile('my_small.py')
    assert cfg.train_dataloader.dataset.ann_file == 'data/mine.pkl'
    assert cfg.model.backbone.num_joints == 17
    options = re.search(r'`--cfg-options (\S+FILE\s\S+FILE\s\S+FILE)`', CARD)
    cfg.merge_from_dict(cfg_options(options.group(1).replace('FILE', 'x.pkl')))
    check_settings(cfg)
    for part in PARTS:
        assert cfg[f'{part}_dataloader'].dataset.ann_file == 'x.pkl'


@pytest.mark.parametrize(
    'name', [n for n, text in EXAMPLES.items() if '_base_ = ' in text]
)
def test_documented_extension(name, tmp_path, monkeypatch):
    """An example trains and is evaluated, hooks included, as it is printed."""
    for path, text in EXAMPLES.items():
        (tmp_path / path).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'data').mkdir()
    made_data(tmp_path / 'data' / 'toy.pkl', classes=16)
    cfg = Config.fromfile(name)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.param_scheduler.warmup = 0
    cfg.load_from = None  # what another example would leave
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.indices = 4
    runner = build_runner(cfg)
    runner.train()
    scores = runner.message_hub.log_scalars
    assert np.isfinite(scores['train/loss'].current())
    if 'SegmentMask' in EXAMPLES[name]:
        mask = runner.train_dataloader.dataset[0]['data_samples'].mask
        hidden = mask.unflatten(1, (10, 25)).sum(dim=2)  # (M, T / u)
        assert sorted(hidden[0]) == [0] * 3 + [25] * 7
    if 'RepresentationProbeHook' in EXAMPLES[name]:
        assert 'probe/knn_top1' in str(scores)


@pytest.mark.parametrize(
    'setting',
    [
        "ann_file = 'mine.pkl'",
        'num_classes = 7',
        'num_joints = 20',
        'center_joint = 3',
        "layout = 'coco'",
        'tau = 0.5',
        "dataset = dict(ann_file='mine.pkl')",
        "train_pipeline = [dict(type='CenterSkeleton')]",
    ],
)
def test_settings_that_set_nothing_end_the_run(setting, tmp_path):
    base = TOY.format('finetune-20e')
    path = tmp_path / 'child.py'
    path.write_text(f'_base_ = {base!r}\n{setting}\n')
    cfg, name = Config.fromfile(path), setting.split()[0]
    with pytest.raises(ValueError, match=f'{name}=.*changes nothing.*use_dat'):
        check_settings(cfg)
    if name == 'ann_file':
        data = made_data(tmp_path / 'ann.pkl', classes=5)
        with pytest.raises(ValueError, match=f'{name}=.*changes nothing'):
            build_runner(shrink(cfg), data).train()


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        ("load_form = 'a.pth'", "did you mean 'load_from'"),
        ('epochs = 77', 'no setting, and nothing has its value'),
    ],
)
def test_misspelt_settings_are_warned_of(setting, message, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mamp_mmaction.config.print_log',
        lambda text, **kwargs: lines.append(text),
    )
    cfg = Config.fromstring(setting, '.py')
    check_settings(cfg)
    (line,) = lines
    assert setting.split()[0] in line and message in line


def test_variables_that_are_used_are_no_settings(tmp_path):
    path = tmp_path / 'child.py'
    options = 'ann_file=ann_file, num_classes=classes'
    text = CHILD.format(base=TOY.format('finetune-20e'), options=options)
    path.write_text("ann_file, classes = 'mine.pkl', 7\n" + text)
    cfg = Config.fromfile(path)
    check_settings(cfg)
    assert cfg.model.cls_head.num_classes == 7


TWO = [
    dict(ann_file='1.pkl', stored_layout='nw_ucla', split='xview'),
    dict(ann_file='2.pkl', stored_layout='nturgb+d', split=('a', 'b')),
]


@pytest.mark.parametrize(
    'options, message',
    [
        ("anfile='x.pkl'", "no option 'anfile'.*ann_file"),
        ("layout='ntu'", "layout 'ntu' is unknown"),
        ("channels='xyc'", "channels='xyc' is none of"),
        ("fill='loops'", "fill='loops' is none of .*'loop'"),
        ("masked='yes'", "masked='yes' is none of"),
        ("num_classes='5'", "num_classes='5': expected an integer of 1"),
        ('num_person=0', 'num_person=0: expected an integer of 1'),
        ("imports='mine'", r"a list of modules, such as \['mine'\]"),
        ("stored_layout='coco'", "stored_layout='coco' needs `layout`"),
        ("union=[dict(ann_file='x')]", 'expected a dict of ann_file, stored_'),
        (f"union={TWO}, split='xsub'", 'split stands beside union'),
        (f"union={TWO}, layout='coco'", 'the union lacks num_classes'),
        ("stream='bone'", "stream='bone'.*need the layout"),
        ("masked=True, part='limb'", "part='limb' need the layout"),
        ("split=('a', 'b', 'c')", 'the names of the two splits'),
        ('tau=0.5, tube=3', 'tau and tube would change nothing.*masked=True'),
    ],
)
def test_options_that_are_wrong(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        child(tmp_path, TOY.format('finetune-20e'), options)


def test_a_first_data_set_is_described_in_full(tmp_path):
    base = 'mamp_mmaction::_base_/mamp_linear.py'
    with pytest.raises(ValueError, match="'x.pkl' lacks num_classes and spli"):
        child(tmp_path, base, "ann_file='x.pkl', layout='coco'")
    with pytest.raises(ValueError, match=r'found no train_dataloader.*recipe'):
        use_dataset(Config(dict(model=dict())), num_classes=3)
    with pytest.raises(FileNotFoundError, match=r"inherits 'mamp_mmaction::x"):
        child(tmp_path, 'mamp_mmaction::x/y.py', '')


def test_from_3d_to_2d_and_back(tmp_path):
    three = TOY.format('pretrain-60e')
    two = tmp_path / 'two.py'
    two.write_text(CHILD.format(base=three, options="channels='xy'"))
    cfg = Config.fromfile(two)
    assert cfg.model.backbone.in_channels == 2
    assert {'ScaleToImage', 'DropScore'} < steps(cfg.train_dataloader).keys()
    assert 'num_coords' not in cfg.model.head
    back = child(tmp_path, './two.py', "channels='xyz'")
    assert back.model.pop('backbone').pop('in_channels') == 3
    expected = child(tmp_path, three, "channels='xyz'")
    assert back.train_dataloader == expected.train_dataloader
    assert back.model.head == expected.model.head


def test_limits_of_the_rotation(tmp_path):
    three = TOY.format('pretrain-60e')
    turned = tmp_path / 'turned.py'
    turned.write_text(CHILD.format(base=three, options='max_angle=(0, 1, 0)'))
    cfg = child(tmp_path, './turned.py', "channels='xyz+score'")
    assert cfg.model.backbone.num_coords == 3  # a confidence does not move
    assert steps(cfg.train_dataloader)['RandomRotate3D'].max_angle == (0, 1, 0)
    assert 'RandomRotate3D' not in steps(cfg.val_dataloader)
    with pytest.raises(ValueError, match='no RandomRotate3D in the inherited'):
        child(tmp_path, three, "channels='xy', max_angle=1")


def test_the_mask_can_be_of_training_alone(tmp_path):
    options = "masked='train', tau=0.5"
    cfg = child(tmp_path, TOY.format('finetune-20e'), options)
    assert steps(cfg.train_dataloader)['MotionAwareMask'].tau == 0.5
    assert 'MotionAwareMask' not in steps(cfg.val_dataloader)


def mapped(cfg):
    """What each data set of training is stored in, and what is made of it."""
    return [
        (data.ann_file, data.pipeline[0].source, data.pipeline[0].target)
        if data.pipeline[0].type == 'MapJoints'
        else data.ann_file
        for data in members(cfg.train_dataloader)
    ]


def test_a_union_of_ones_own(tmp_path):
    options = f"union={TWO}, layout='kinect_v1'"
    cfg = child(tmp_path, TOY.format('pretrain-60e'), options)
    check_settings(cfg)
    assert cfg.model.backbone.num_joints == 20
    expected = [
        ('1.pkl', 'nw_ucla', 'kinect_v1'),
        ('2.pkl', 'nturgb+d', 'kinect_v1'),
    ]
    assert mapped(cfg) == expected
    assert [data.split for data in members(cfg.val_dataloader)] == [
        'xview_val',
        'b',
    ]
    assert all('num_classes' not in d for d in members(cfg.train_dataloader))
    (tmp_path / 'child.py').rename(tmp_path / 'union.py')
    for options, found in (
        ('tau=0.5', expected),
        ("ann_file='3.pkl', stored_layout='utd_mhad'", 'utd_mhad'),
        ("ann_file='3.pkl', layout='coco'", None),
    ):
        cfg = child(tmp_path, './union.py', options)
        if found is None:
            found = ['3.pkl']
        elif found != expected:
            found = [('3.pkl', found, 'kinect_v1')]
        assert mapped(cfg) == found
    with pytest.raises(ValueError, match="stored_layout which are in '3.pkl"):
        child(tmp_path, './union.py', "ann_file='3.pkl', split='a'")


def test_a_new_data_set_takes_the_unions_recipe(tmp_path, unseen_layout):
    data = made_data(tmp_path / 'mine.pkl', joints=20, classes=7)
    cfg = child(
        tmp_path,
        'mamp_mmaction::mamp/nw-ucla/'
        'mamp_1xb32-finetune-30e_nw-ucla-xview-from-kinect-v1-keypoint-3d.py',
        f"ann_file={data!r}, num_classes=7, stored_layout='{unseen_layout}'",
    )
    check_settings(cfg)
    assert mapped(cfg) == [(data, unseen_layout, 'kinect_v1')]
    runner = build_runner(cfg)
    runner.load_or_resume()  # the weights that ship
    for name, shipped in torch.load(cfg.load_from)['state_dict'].items():
        assert torch.equal(runner.model.state_dict()[name], shipped)
    train_and_evaluate_once(runner)


def test_masked_limbs_are_those_of_the_new_layout():
    cfg = config('mamp_*-pretrain-[0-9]*_nw-ucla-xview-*')
    mask = steps(cfg.train_dataloader)['MotionAwareMask']
    mask.update(part='limb', layout='nw_ucla')
    use_dataset(cfg, stored_layout='nw_ucla', layout='msr_action3d')
    mask = steps(cfg.train_dataloader)['MotionAwareMask']
    assert mask.layout == 'msr_action3d'
    assert 'layout' not in steps(cfg.val_dataloader)['MotionAwareMask']
