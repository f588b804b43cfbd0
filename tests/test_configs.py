"""Every config of real data sets, built and run once.

The tables below were typed from the paper's recipes, not read from the
configs: a number that changes there must be changed here on purpose.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from synthetic import annotation, write

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mamp'
FOLDERS = ('ntu60', 'ntu120', 'pku1', 'pku2')
FILES = [path for name in FOLDERS for path in (CONFIGS / name).glob('*.py')]
NAME = re.compile(
    r'mamp_(?P<gpus>\d)xb(?P<batch>\d+)-'
    r'(?P<protocol>pretrain|mae|linear|finetune|scratch|semi1|semi10|transfer)'
    r'(-(?P<stream>bone|motion))?-(?P<epochs>\d+)e_'
    r'(?P<data>(ntu60|ntu120|pku1|pku2)-(xsub|xview|xset))'
    r'(-from-(?P<source>\w+-\w+))?-keypoint-3d'
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
SPLITS = [
    f'{split}_{part}'
    for split in ('xsub', 'xview', 'xset')
    for part in ('train', 'val')
]


@pytest.fixture(scope='module')
def ann_file(tmp_path_factory):
    """200 samples with all split names; one person or two, 25 joints."""
    samples = [
        annotation(i, persons=1 + i % 2, frames=40 + i, classes=51)
        for i in range(200)
    ]
    names = [sample['frame_dir'] for sample in samples]
    split = dict.fromkeys(SPLITS, names)
    path = tmp_path_factory.mktemp('data') / 'ann.pkl'
    return write(path, dict(split=split, annotations=samples))


def describe(path):
    """What the file's name says, with the recipe's numbers."""
    match = NAME.fullmatch(path.stem)
    assert match, f'{path.name} is not named by the rule'
    named = match.groupdict()
    named['folder'], named['split'] = named['data'].split('-')
    assert named['folder'] == path.parent.name
    return named


def steps(dataloader):
    """The transforms of a dataloader by type."""
    return {step['type']: step for step in dataloader.dataset.pipeline}


def check_data(cfg, named):
    classes, fill, center, tau, _, _ = DATA[named['folder']]
    for part, loader in (
        ('train', cfg.train_dataloader),
        ('val', cfg.val_dataloader),
        ('val', cfg.test_dataloader),
    ):
        assert loader.dataset.split == f'{named["split"]}_{part}'
        assert loader.dataset.num_classes == classes
        assert named['folder'] in loader.dataset.ann_file
        transforms = steps(loader)
        assert transforms['CenterSkeleton']['center_joint'] == center
        assert transforms['TemporalCropResize']['num_frames'] == 120
        assert transforms['FormatGCNInput'].get('mode', 'zero') == fill
        assert transforms['FormatGCNInput']['num_person'] == 2
        assert ('RandomRotate3D' in transforms) == (part == 'train')
        crop = transforms['TemporalCropResize'].get('test_mode', False)
        assert crop == (part == 'val')
        stream = transforms.get('SkeletonStream', {}).get('stream')
        assert stream == STREAMS.get(named['stream'])
        if named['protocol'] in ('pretrain', 'mae'):
            mask = transforms['MotionAwareMask']
            expected = tau if named['protocol'] == 'pretrain' else 0
            assert (mask['mask_ratio'], mask['tau']) == (0.9, expected)
            assert ('seed' in mask) == (part == 'val')
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
    assert cfg.train_cfg.max_epochs == int(named['epochs']) == epochs
    assert cfg.param_scheduler.type == 'WarmupCosineLR'
    assert cfg.param_scheduler.warmup == warmup
    assert cfg.param_scheduler.min_lr == min_lr
    assert cfg.param_scheduler.convert_to_iter_based
    per_gpu = cfg.train_dataloader.batch_size
    assert per_gpu == int(named['batch'])
    assert per_gpu * int(named['gpus']) == batch
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=batch)
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


def check_start(cfg, named):
    """The weights to start from are those another config leaves."""
    if named['protocol'] in ('pretrain', 'mae', 'scratch'):
        assert cfg.load_from is None
        return
    folder, file = Path(cfg.load_from).parts[1:]
    source = next(path for path in FILES if path.stem == folder)
    told = describe(source)
    assert told['protocol'] == 'pretrain'
    assert told['stream'] == named['stream']
    assert told['data'] == (named['source'] or named['data'])
    epoch = 400
    if named['protocol'] == 'linear' or named['source'] == 'pku1-xsub':
        epoch = DATA[told['folder']][5][2]
    assert file == f'epoch_{epoch}.pth'
    saving = Config.fromfile(source)
    intervals = [saving.default_hooks.checkpoint.interval]
    intervals += [h.interval for h in saving.get('custom_hooks', [])]
    assert any(epoch % interval == 0 for interval in intervals)


def check_model(model, named):
    classes, *_, decoder, _ = DATA[named['folder']]
    drop_path, smoothing = RECIPES[named['protocol']][9:]
    backbone = model.backbone
    assert (backbone.num_frames, backbone.num_joints) == (120, 25)
    assert (backbone.embed_dims, len(backbone.blocks)) == (256, 8)
    rate = backbone.blocks[-1].drop_path.drop_prob
    assert rate == pytest.approx(drop_path)
    if named['protocol'] in ('pretrain', 'mae'):
        assert len(model.neck.blocks) == decoder
        target = 'motion' if named['protocol'] == 'pretrain' else 'joint'
        assert (model.head.target, model.head.norm_target) == (target, True)
        assert model.head.motion_stride == 1
    else:
        assert model.cls_head.num_classes == classes
        assert model.cls_head.label_smooth_eps == smoothing


def build_runner(cfg, ann_file, work_dir, name):
    """A runner on the synthetic data, two samples a batch."""
    for part in ('train', 'val', 'test'):
        loader = cfg[f'{part}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.ann_file = ann_file
    cfg.update(work_dir=str(work_dir), experiment_name=name, log_level='ERROR')
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


def test_all_protocols_are_there():
    found = {
        (named['data'], named['protocol'], named['stream'], named['source'])
        for named in map(describe, FILES)
    }
    every = [
        *('ntu60-xsub', 'ntu60-xview', 'ntu120-xsub', 'ntu120-xset'),
        *('pku1-xsub', 'pku1-xview', 'pku2-xsub', 'pku2-xview'),
    ]
    wanted = {
        (data, protocol, None, None)
        for data in every
        for protocol in ('pretrain', 'mae', 'linear', 'finetune', 'scratch')
    }
    wanted |= {
        (data, protocol, None, None)
        for data in every[:2]
        for protocol in ('semi1', 'semi10')
    }
    wanted |= {
        (data, protocol, stream, None)
        for data in every[:4]
        for protocol in ('pretrain', 'linear', 'finetune')
        for stream in STREAMS
    }
    wanted |= {
        ('pku2-xsub', 'transfer', None, source)
        for source in ('ntu60-xsub', 'ntu120-xsub', 'pku1-xsub')
    }
    assert found == wanted and len(FILES) == len(wanted)


def test_the_model_index_lists_every_config():
    root = CONFIGS.parents[1]
    index = yaml.safe_load((root / 'model-index.yml').read_text())
    models = [
        model
        for file in index['Import']
        for model in yaml.safe_load((root / file).read_text())['Models']
    ]
    listed = {model['Config']: model['Name'] for model in models}
    files = {
        str(file.relative_to(root)): file.stem
        for file in CONFIGS.parent.rglob('*.py')
        if '_base_' not in file.parts
    }
    assert listed == files


def test_the_model_card_links_to_configs_that_exist():
    links = re.findall(
        r'\]\(([\w/-]+\.py)\)', (CONFIGS / 'README.md').read_text()
    )
    assert len(links) == 8
    assert all((CONFIGS / link).exists() for link in links)


ABLATIONS = re.findall(
    r'^\| ([\w ]+) \| `(.*=.*)` \|$',
    (CONFIGS / 'README.md').read_text(),
    flags=re.MULTILINE,
)


@pytest.mark.parametrize('what, options', ABLATIONS, ids=str.split)
def test_documented_ablation(what, options, ann_file, tmp_path):
    path = next(CONFIGS.glob('ntu60/*-pretrain-400e_ntu60-xsub-*.py'))
    cfg = Config.fromfile(path)
    before = cfg.copy()
    given = DictAction(['--cfg-options'], 'options')
    namespace = argparse.Namespace()
    given(None, namespace, options.split())
    cfg.merge_from_dict(namespace.options)
    assert cfg.model != before.model or (
        cfg.train_dataloader != before.train_dataloader
        and cfg.val_dataloader != before.val_dataloader
    )
    runner = build_runner(cfg, ann_file, tmp_path, f'ablation {what}')
    metrics = train_and_evaluate_once(runner)
    assert 0 < metrics['masked_motion/zero_mse'] < 11 / 12 + 0.1


def test_the_ablations_of_the_paper_are_documented():
    assert len(ABLATIONS) == 8


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_config(path, ann_file, tmp_path):
    named = describe(path)
    cfg = Config.fromfile(path)
    check_data(cfg, named)
    check_recipe(cfg, named)
    check_start(cfg, named)

    runner = build_runner(cfg, ann_file, tmp_path, path.stem)
    check_model(runner.model, named)
    metrics = train_and_evaluate_once(runner)
    if named['protocol'] in ('pretrain', 'mae'):
        assert 0 < metrics['masked_motion/zero_mse'] < 11 / 12 + 1e-3
    else:
        assert 0 <= metrics['acc/top1'] <= metrics['acc/top5'] <= 1


MSR_FILES = sorted(CONFIGS.parent.rglob('*_msr-action3d-xsub-*.py'))


@pytest.mark.parametrize('path', MSR_FILES, ids=lambda path: path.stem)
def test_msr_action3d_config(path, tmp_path):
    samples = [annotation(i, joints=20, classes=20) for i in range(80)]
    names = [sample['frame_dir'] for sample in samples]
    split = dict(xsub_train=names, xsub_val=names)
    data = write(tmp_path / 'ann.pkl', dict(split=split, annotations=samples))
    cfg = Config.fromfile(path)
    network, protocol = re.match(r'(\w+)_1xb32-([a-z]+)-', path.stem).groups()
    check_msr_start(cfg, network, protocol)
    metrics = train_and_evaluate_once(
        build_runner(cfg, data, tmp_path, path.stem)
    )
    if protocol in ('pretrain', 'mae'):
        assert 0 < metrics['masked_motion/zero_mse'] < 1
    else:
        assert 0 <= metrics['acc/top1'] <= metrics['acc/top5'] <= 1


def check_msr_start(cfg, network, protocol):
    if protocol not in ('linear', 'finetune'):
        assert cfg.load_from is None
        return
    folder, file = Path(cfg.load_from).parts[1:]
    source = next(path for path in MSR_FILES if path.stem == folder)
    assert source.stem.startswith(f'{network}_1xb32-pretrain-')
    epochs = Config.fromfile(source).train_cfg.max_epochs
    assert file == f'epoch_{epochs}.pth'


def test_msr_action3d_configs_are_there():
    found = {
        re.match(r'(\w+)_1xb32-([a-z]+)-', f.stem).groups() for f in MSR_FILES
    }
    wanted = {
        (network, protocol)
        for network in ('mamp', 'stgcn', 'stgcnpp', 'aagcn')
        for protocol in ('pretrain', 'finetune', 'scratch')
    }
    wanted |= {('mamp', 'mae'), ('mamp', 'linear'), ('stgcnpp', 'auxiliary')}
    assert found == wanted
