"""Learning rates, parameter groups, and the check for finite numbers."""

import math
import uuid

import pytest
import torch
from mmaction.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS,
    PARAM_SCHEDULERS,
)
from mmengine.hooks import Hook
from mmengine.runner import Runner
from small_models import T, encoder, finetune_head, mamp
from small_models import recogniser as build_recogniser
from synthetic import data_set, loader, pipeline, write

from mamp_mmaction.engine import WarmupCosineLR
from mamp_mmaction.engine.runner_model import is_stand_in

PRETRAIN = dict(lr=1e-3, min_lr=5e-4, epochs=400, warmup=20)
FINETUNE = dict(lr=3e-4, min_lr=1e-5, epochs=100, warmup=5)
PROBE = dict(lr=0.1, min_lr=0.0, epochs=100, warmup=0)
NOTHING = dict(lr=0.0, min_lr=0.0, epochs=5, warmup=1)

# Learning rate ---------------------------------------------------------------


def formula(step, per_epoch, lr, min_lr, epochs, warmup):
    e = step / per_epoch
    if e < warmup:
        return lr * e / warmup
    progress = (e - warmup) / (epochs - warmup)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2


def optimizer(lr, scales=(1.0,)):
    params = [
        dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=lr * scale)
        for scale in scales
    ]
    return torch.optim.AdamW(params, lr=lr)


def learning_rates(recipe, per_epoch, scales=(1.0,)):
    """Learning rate of every group at every iteration."""
    optim = optimizer(recipe['lr'], scales)
    scheduler = PARAM_SCHEDULERS.build(
        dict(
            type='WarmupCosineLR',
            warmup=recipe['warmup'],
            min_lr=recipe['min_lr'],
            end=recipe['epochs'],
            convert_to_iter_based=True,
        ),
        default_args=dict(optimizer=optim, epoch_length=per_epoch),
    )
    rates = []
    for _ in range(recipe['epochs'] * per_epoch):
        rates.append([group['lr'] for group in optim.param_groups])
        optim.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize('recipe', [PRETRAIN, FINETUNE, PROBE, NOTHING])
@pytest.mark.parametrize('per_epoch', [1, 3])
def test_learning_rate_at_every_iteration(recipe, per_epoch):
    """Whatever scales a group scales its minimum too."""
    rates = learning_rates(recipe, per_epoch, scales=(1.0, 0.8**5))
    for step, (rate, scaled) in enumerate(rates):
        expected = formula(step, per_epoch, **recipe)
        exact = dict(rel=1e-9, abs=1e-15)
        assert rate == pytest.approx(expected, **exact)
        assert scaled == pytest.approx(expected * 0.8**5, **exact)


def test_a_longer_training_goes_on_by_its_own_schedule():
    short, long = (
        WarmupCosineLR(
            optimizer(1.0), min_lr=0.1, warmup=2, end=end, by_epoch=False
        )
        for end in (4, 8)
    )
    for _ in range(4):
        short.optimizer.step()
        short.step()
    long.load_state_dict(short.state_dict())
    for step in range(5, 8):
        long.optimizer.step()
        long.step()
        expected = formula(step, 1, 1.0, 0.1, 8, 2)
        assert long.get_last_value() == [pytest.approx(expected)]


def test_epochs_without_a_batch_are_explained():
    with pytest.raises(ValueError, match='smaller than .*batch_size, and dro'):
        learning_rates(NOTHING, per_epoch=0)


def test_scaling_the_learning_rate_scales_the_curve():
    """As --auto-scale-lr does, after the optimizer was built."""
    optim = optimizer(1e-3)
    optim.param_groups[0]['lr'] *= 0.25
    scheduler = WarmupCosineLR(
        optim, min_lr=5e-4, warmup=2, end=10, by_epoch=False
    )
    for step in range(9):
        expected = formula(step, 1, 1e-3, 5e-4, 10, 2) * 0.25
        assert optim.param_groups[0]['lr'] == pytest.approx(expected)
        optim.step()
        scheduler.step()


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(end=9), 'convert_to_iter_based=True'),
        (dict(by_epoch=False), 'needs an end'),
        (dict(warmup=9, end=9, by_epoch=False), 'warmup=9'),
    ],
)
def test_schedule_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosineLR(optimizer(1e-3), **kwargs)


# Parameter groups ------------------------------------------------------------


def finetuned(depth=3):
    return build_recogniser(finetune_head(), encoder(depth=depth))


def constructor(layer_decay, **optimizer):
    return OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='MAMPLayerDecayConstructor',
            optim_wrapper_cfg=dict(type='OptimWrapper', optimizer=optimizer),
            paramwise_cfg=dict(layer_decay=layer_decay),
        )
    )


def optimizer_of(model, layer_decay, **kwargs):
    adamw = dict(type='AdamW', lr=3e-4, weight_decay=0.05)
    return constructor(layer_decay, **dict(adamw, **kwargs))(model).optimizer


def groups_of(model, layer_decay, **kwargs):
    """(lr, weight decay) of every parameter, and the number of groups."""
    names = {id(param): name for name, param in model.named_parameters()}
    groups = optimizer_of(model, layer_decay, **kwargs).param_groups
    found = {
        names[id(param)]: (group['lr'], group['weight_decay'])
        for group in groups
        for param in group['params']
    }
    return found, len(groups)


def expected_layer(name, depth):
    """Embeddings are layer 0, then the blocks, then all behind them."""
    if 'embed' in name:
        return 0
    if 'blocks' in name:
        return int(name.split('.')[2]) + 1
    return depth + 1


@pytest.mark.parametrize('depth', [3, 8])
def test_layer_decay_groups(depth):
    model = finetuned(depth)
    found, count = groups_of(model, 0.8)
    assert len(found) == len(list(model.parameters()))
    for name, param in model.named_parameters():
        scale = 0.8 ** (depth + 1 - expected_layer(name, depth))
        lr, weight_decay = found[name]
        assert lr == pytest.approx(3e-4 * scale), name
        assert weight_decay == (0.05 if param.ndim > 1 else 0), name
    # Each layer has parameters that decay and some that do not.
    assert count == 2 * (depth + 2)


@pytest.mark.parametrize('build', [mamp, finetuned])
def test_without_layer_decay_two_groups_remain(build):
    model = build()
    found, count = groups_of(model, 1.0)
    assert count == 2 and len(found) == len(list(model.parameters()))
    assert {lr for lr, _ in found.values()} == {3e-4}
    for name, (_, weight_decay) in found.items():
        # Embeddings and mask tokens decay.
        decays = name.endswith(('embed', 'token', 'weight'))
        decays &= 'norm' not in name and 'bn' not in name
        assert weight_decay == 0.05 * decays, name


def test_no_weight_decay_given_is_the_optimisers_own():
    wrapper = constructor(0.8, type='AdamW', lr=3e-4)(finetuned())
    for group in wrapper.optimizer.param_groups:
        decays = group['params'][0].ndim > 1
        assert group['weight_decay'] == 0.01 * decays


def test_frozen_parameters_are_left_out():
    model = finetuned()
    model.backbone.requires_grad_(False)
    found, _ = groups_of(model, 0.8)
    assert found and all('head' in name for name in found)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(layer_decay=1.5), 'layer_decay=1.5'),
        (dict(layer_decay=0.8, type='AdamW'), 'has none: add lr'),
        (dict(layer_decay=0.8, type='AdamW', lr=1), 'MAMPTransformer'),
    ],
)
def test_layer_decay_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        constructor(**kwargs)(torch.nn.Linear(3, 3))


# Through the runner ----------------------------------------------------------

LOOKS = ('CenterSkeleton', 'TemporalCropResize')


@pytest.fixture
def run(tmp_path):
    """Trains a small MAMP; one sample has the given coordinate."""

    def train(coordinate=0.0, hooks=(), **kwargs):
        data = data_set(size=6, train=6, frames=T, joints=7)
        data['annotations'][4]['keypoint'][0, 3, 2, 1] = coordinate
        ann_file = write(tmp_path / 'data.pkl', data)
        # Without what looks at the coordinates before the model does.
        steps = [s for s in pipeline(T, 1, 0.8) if s['type'] not in LOOKS]
        steps[1].update(tau=0)
        checkpoint = dict(type='CheckpointHook', interval=1, by_epoch=False)
        runner = Runner(
            model=mamp(),
            work_dir=str(tmp_path / 'work'),
            experiment_name=uuid.uuid4().hex,
            train_dataloader=loader(
                *(ann_file, 'xsub_train', steps, 'PoseDataset'),
                batch_size=2,
                sampler=dict(type='DefaultSampler', shuffle=False),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(
                type='OptimWrapper',
                constructor='MAMPLayerDecayConstructor',
                paramwise_cfg=dict(layer_decay=0.8),
                optimizer=dict(type='AdamW', lr=1e-3),
            ),
            default_hooks=dict(
                checkpoint=checkpoint, finite=dict(type='FiniteCheckHook')
            ),
            custom_hooks=list(hooks),
            default_scope='mmaction',
            log_level='ERROR',
            **kwargs,
        )
        runner.train()
        return runner

    return train


def saved(tmp_path):
    return sorted(path.name for path in tmp_path.glob('work/*.pth'))


@pytest.mark.parametrize('coordinate', [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_samples(
    run, tmp_path, coordinate
):
    with pytest.raises(ValueError) as error:
        run(coordinate)
    assert "'S004', sample 'S005'. Look" in str(error.value)
    assert 'at iteration 3 (epoch 1)' in str(error.value)
    assert saved(tmp_path) == ['iter_1.pth', 'iter_2.pth']


def test_training_does_not_start_from_nan(run, tmp_path):
    model = mamp()
    model.neck.mask_token.data[0, 0, 3] = math.nan
    path = tmp_path / 'nan.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    with pytest.raises(ValueError, match='first is neck.mask_token'):
        run(load_from=str(path))
    assert saved(tmp_path) == []


class Poison(Hook):
    """A step may leave weights that are not finite, though its loss was."""

    def after_train_iter(self, runner, batch_idx, *args, **kwargs):
        if batch_idx == 1:
            runner.model.backbone.norm.bias.data[0] = math.inf


def test_weights_that_are_not_finite_are_not_saved(run, tmp_path):
    with pytest.raises(ValueError, match='hold .* backbone.norm.bias'):
        run(hooks=[Poison()])
    assert saved(tmp_path) == ['iter_1.pth']


def test_only_a_model_without_a_backbone_stands_in_for_one():
    kind = type('SimpleModel', (torch.nn.Module,), {})
    assert is_stand_in(kind())
    own = kind()
    own.backbone = torch.nn.Identity()
    assert not is_stand_in(own)
