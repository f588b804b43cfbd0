import copy
import platform

import pytest
import torch
from mmaction.registry import MODELS, OPTIM_WRAPPERS
from mmaction.structures import ActionDataSample
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner, load_checkpoint
from synthetic import data_set, write

from mamp_mmaction.engine import AutoAmpOptimWrapper, amp_optim_wrapper

ENCODER = dict(
    type='MAMPTransformer',
    embed_dims=32,
    depth=2,
    num_heads=4,
    num_frames=24,
    num_joints=20,
)
PRETRAINING = dict(
    type='MAMP',
    backbone=ENCODER,
    neck=dict(type='MAMPDecoder', decoder_embed_dims=16, depth=1),
    head=dict(type='MotionPredictionHead'),
)


@pytest.fixture
def bf16(monkeypatch):
    """Every processor computes in bfloat16, if need be by emulation."""
    monkeypatch.setattr(
        amp_optim_wrapper, 'supports_bfloat16', lambda device: True
    )


@pytest.fixture
def no_bf16(monkeypatch):
    """No processor does; gives what is logged."""
    logged = []
    monkeypatch.setattr(
        amp_optim_wrapper, 'supports_bfloat16', lambda device: False
    )
    monkeypatch.setattr(
        amp_optim_wrapper, 'print_log', lambda text, **_: logged.append(text)
    )
    return logged


def recognizer(head):
    return dict(
        type='RecognizerGCN',
        data_preprocessor=dict(type='SkeletonDataPreprocessor'),
        backbone=ENCODER,
        cls_head=dict(dict(num_classes=5, in_channels=32), **head),
    )


def batch(seed, samples=4):
    """A batch for pre-training and for classification."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 1, 2, 24, 20, 3, generator=generator)
    order = torch.rand(samples, 2, 120, generator=generator).argsort(dim=-1)
    return dict(
        inputs=list(inputs),
        data_samples=[
            ActionDataSample(mask=mask).set_gt_label(index % 5)
            for index, mask in enumerate(order >= 24)
        ],
    )


def wrap(model, type='AutoAmpOptimWrapper', lr=1e-3, **kwargs):
    optimizer = dict(type='AdamW', lr=lr)
    return build_optim_wrapper(
        model, dict(type=type, **dict(dict(optimizer=optimizer), **kwargs))
    )


def train(model, optim_wrapper, steps):
    """Loss of every step; each has its batch."""
    return [
        model.train_step(batch(step), optim_wrapper)['loss'].item()
        for step in steps
    ]


def distance(model, other):
    """Norm of the difference of two models' parameters."""
    pairs = zip(model.parameters(), other.parameters())
    return torch.cat([(a - b).flatten() for a, b in pairs]).norm().item()


def test_matrices_are_bfloat16_and_all_that_stays_is_float32(bf16):
    model = MODELS.build(PRETRAINING)
    inside = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(
                lambda *args, name=name: inside.update({name: args[2].dtype})
            )
    optim_wrapper = wrap(model)
    with optim_wrapper.optim_context(model):
        data = model.data_preprocessor(batch(0), True)
        losses = model(**data, mode='loss')
    assert data['inputs'].dtype == torch.float32
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert {'backbone.patch_embed', 'neck.pred'} < set(inside)
    assert set(inside.values()) == {torch.bfloat16}

    optim_wrapper.update_params(losses['loss_motion'])
    for name, param in model.named_parameters():
        state = optim_wrapper.optimizer.state[param]
        kept = (param, state['exp_avg'], state['exp_avg_sq'])
        assert {x.dtype for x in kept} == {torch.float32}, name
        assert state['exp_avg'].any(), name


def test_nothing_is_bfloat16_behind_the_context(bf16):
    model = MODELS.build(PRETRAINING)
    train(model, wrap(model), [0])
    data = model.data_preprocessor(batch(0))
    assert model(**data, mode='tensor').dtype == torch.float32


def test_training_follows_that_in_float32(bf16):
    model = MODELS.build(PRETRAINING)
    reference = copy.deepcopy(model)
    steps = [0] * 30
    losses = train(model, wrap(model, lr=3e-3), steps)
    expected = train(reference, wrap(reference, 'OptimWrapper', 3e-3), steps)
    assert expected[-1] < 0.9 * expected[0]
    assert losses == pytest.approx(expected, rel=0.02)
    assert losses != expected  # it was not float32


@pytest.mark.parametrize(
    'head',
    [
        dict(type='GCNHead'),
        dict(type='LinearProbeHead', label_smooth_eps=0.1),
        dict(type='MAMPFinetuneHead', num_joints=20, hidden_dims=16),
    ],
)
def test_classifiers_get_float32_scores(bf16, head):
    """The toolbox's heads hand them to numpy, which has no bfloat16."""
    model = MODELS.build(recognizer(head))
    classifier = [
        module
        for module in model.cls_head.modules()
        if isinstance(module, torch.nn.Linear)
    ][-1]
    inside = []
    classifier.register_forward_hook(lambda *args: inside.append(args[2]))
    optim_wrapper = wrap(model)
    with optim_wrapper.optim_context(model):
        data = model.data_preprocessor(batch(0), True)
        loss = model(**data, mode='loss')['loss_cls']
    assert inside[0].dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    optim_wrapper.update_params(loss)
    losses = train(model, optim_wrapper, [0] * 10)
    assert losses[-1] < losses[0]


def gradients(type, **kwargs):
    """Gradients of three batches accumulated, with a fresh model."""
    torch.manual_seed(0)
    model = MODELS.build(PRETRAINING)
    optim_wrapper = wrap(
        model,
        type,
        accumulative_counts=3,
        optimizer=dict(type='SGD', lr=0.5),
        **kwargs,
    )
    before = [param.detach().clone() for param in model.parameters()]
    for step in range(3):
        still = zip(model.parameters(), before)
        assert all(torch.equal(param, old) for param, old in still)
        train(model, optim_wrapper, [step])
    return torch.cat(
        [
            ((old - param) / 0.5).flatten()
            for param, old in zip(model.parameters(), before)
        ]
    ).detach()


def test_gradients_are_accumulated_as_by_the_plain_wrapper(bf16):
    ours, plain = gradients('AutoAmpOptimWrapper'), gradients('OptimWrapper')
    assert 0 < (ours - plain).norm() < 0.03 * plain.norm()


def test_gradients_are_clipped_as_by_the_plain_wrapper(bf16):
    norm = gradients('OptimWrapper').norm().item()
    clip = dict(clip_grad=dict(max_norm=norm / 4))
    ours = gradients('AutoAmpOptimWrapper', **copy.deepcopy(clip))
    plain = gradients('OptimWrapper', **clip)
    assert ours.norm().item() == pytest.approx(norm / 4, rel=1e-3)
    assert 0 < (ours - plain).norm() < 0.03 * plain.norm()


@pytest.mark.parametrize(
    'first, second',
    [
        ('AutoAmpOptimWrapper', 'OptimWrapper'),
        ('OptimWrapper', 'AutoAmpOptimWrapper'),
    ],
)
def test_optimiser_states_are_interchangeable(bf16, first, second):
    model = MODELS.build(PRETRAINING)
    saved = wrap(model, first)
    train(model, saved, range(3))
    resumed_model = MODELS.build(PRETRAINING)
    resumed_model.load_state_dict(model.state_dict())
    resumed = wrap(resumed_model, second)
    resumed.load_state_dict(copy.deepcopy(saved.state_dict()))
    assert saved.state_dict().keys() == resumed.state_dict().keys()
    for a, b in zip(model.parameters(), resumed_model.parameters()):
        torch.testing.assert_close(
            resumed.optimizer.state[b], saved.optimizer.state[a]
        )

    # The next step moves both models to the same place, but for bfloat16.
    before = copy.deepcopy(model)
    loss = train(model, saved, [3])
    assert train(resumed_model, resumed, [3]) == pytest.approx(loss, rel=0.01)
    assert distance(resumed_model, model) < 0.1 * distance(model, before)


def test_without_bfloat16_it_says_so_once_and_is_the_plain_wrapper(no_bf16):
    model = MODELS.build(PRETRAINING)
    reference = copy.deepcopy(model)
    losses = train(model, wrap(model), range(3))
    assert losses == train(
        reference, wrap(reference, 'OptimWrapper'), range(3)
    )
    assert distance(model, reference) == 0
    (message,) = no_bf16
    assert 'no bfloat16' in message and 'cpu: training in float32' in message


@pytest.mark.parametrize('machine', ['x86_64', 'AMD64'])
@pytest.mark.parametrize('has', [True, False])
def test_instructions_of_a_processor_decide(monkeypatch, machine, has):
    """Whatever oneDNN would emulate."""
    monkeypatch.setattr(platform, 'machine', lambda: machine)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: has)
    supports = amp_optim_wrapper.supports_bfloat16
    assert supports(torch.device('cpu')) == has
    assert not supports(torch.device('meta'))


@pytest.mark.parametrize('build_has', [True, False])
def test_processors_of_other_makes_are_left_to_onednn(monkeypatch, build_has):
    monkeypatch.setattr(platform, 'machine', lambda: 'aarch64')
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: False)
    monkeypatch.setattr(
        torch.backends.mkldnn, 'is_available', lambda: build_has
    )
    expected = build_has and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    supports = amp_optim_wrapper.supports_bfloat16
    assert supports(torch.device('cpu')) == expected


@pytest.mark.parametrize('has', [True, False])
def test_a_gpu_is_asked_about_itself_without_emulation(monkeypatch, has):
    asked = []

    class Selected:
        def __init__(self, device):
            asked.append(device)

        def __enter__(self):
            return self

        def __exit__(self, *args):
            pass

    def is_supported(including_emulation=True):
        return including_emulation or has

    monkeypatch.setattr(torch.cuda, 'device', Selected)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', is_supported)
    device = torch.device('cuda:1')
    assert amp_optim_wrapper.supports_bfloat16(device) == has
    assert asked == [device]


@pytest.mark.parametrize('dtype', ['float16', torch.float16, 'int8'])
def test_other_types_are_refused(dtype):
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="dtype=.*type='AmpOptimWrapper'"):
        wrap(model, dtype=dtype)


@pytest.mark.parametrize('dtype', ['bfloat16', torch.bfloat16])
def test_bfloat16_may_be_named(dtype):
    assert OPTIM_WRAPPERS.get('AutoAmpOptimWrapper') is AutoAmpOptimWrapper
    optim_wrapper = wrap(torch.nn.Linear(2, 2), dtype=dtype)
    assert isinstance(optim_wrapper, AutoAmpOptimWrapper)


# Through the runner ----------------------------------------------------------


def loader(path, split):
    return dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(
            type='SkeletonDataset',
            ann_file=path,
            split=split,
            pipeline=[
                dict(type='CenterSkeleton', center_joint=1),
                dict(type='TemporalCropResize', num_frames=24),
                dict(type='FormatGCNInput', num_person=1),
                dict(type='MotionAwareMask', mask_ratio=0.8),
                dict(type='PackActionInputs', algorithm_keys=('mask',)),
            ],
        ),
    )


@pytest.fixture
def run(tmp_path):
    """Trains a tiny MAMP for some epochs, resuming the run before."""
    data = write(tmp_path / 'data.pkl', data_set(size=12, train=8, joints=20))

    def train_until(epochs, wrapper, resume):
        runner = Runner(
            model=PRETRAINING,
            work_dir=str(tmp_path),
            experiment_name=f'{tmp_path.name}-{epochs}',
            train_dataloader=loader(data, 'xsub_train'),
            val_dataloader=loader(data, 'xsub_val'),
            val_evaluator=dict(type='MaskedMotionMetric'),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            val_cfg=dict(type='ValLoop'),
            optim_wrapper=dict(
                type=wrapper,
                constructor='MAMPLayerDecayConstructor',
                optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            ),
            resume=resume,
            default_scope='mmaction',
            log_level='ERROR',
            randomness=dict(seed=0),
        )
        runner.train()
        assert isinstance(runner.optim_wrapper, OPTIM_WRAPPERS.get(wrapper))
        return tmp_path / f'epoch_{epochs}.pth'

    return train_until


@pytest.mark.parametrize(
    'first, second',
    [
        ('AutoAmpOptimWrapper', 'OptimWrapper'),
        ('OptimWrapper', 'AutoAmpOptimWrapper'),
    ],
)
def test_a_run_is_resumed_by_the_other_wrapper(bf16, run, first, second):
    saved = run(1, first, resume=False)
    written = saved.stat().st_mtime_ns
    resumed = run(2, second, resume=True)
    assert saved.stat().st_mtime_ns == written  # its epoch is not run again
    model = MODELS.build(PRETRAINING)
    start = copy.deepcopy(model)
    checkpoints = [
        load_checkpoint(start, str(saved)),
        load_checkpoint(model, str(resumed)),
    ]
    keys = [checkpoint['optimizer'].keys() for checkpoint in checkpoints]
    assert keys[0] == keys[1]
    steps = [
        {int(s['step']) for s in checkpoint['optimizer']['state'].values()}
        for checkpoint in checkpoints
    ]
    assert steps == [{2}, {4}]  # two batches an epoch
    assert distance(start, model) > 0
    for value in model.state_dict().values():
        assert value.dtype == torch.float32 and value.isfinite().all()
