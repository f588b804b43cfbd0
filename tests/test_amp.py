"""Training and evaluating in bfloat16."""

import copy
import platform
import uuid

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from small_models import (
    T,
    V,
    batch,
    finetune_head,
    gcn_head,
    linear_head,
    mamp,
    recogniser,
)
from synthetic import data_set, loader, pipeline, write

from mamp_mmaction.engine import AutoAmpOptimWrapper, amp_optim_wrapper

OURS_AND_PLAIN = ['AutoAmpOptimWrapper', 'OptimWrapper']
HEADS = pytest.mark.parametrize(
    'head',
    [gcn_head(), dict(linear_head(), label_smooth_eps=0.1), finetune_head()],
)


@pytest.fixture
def bf16(monkeypatch):
    """Every processor computes in bfloat16, if need be by emulation."""
    monkeypatch.setattr(
        amp_optim_wrapper, 'supports_bfloat16', lambda device: True
    )


def data_of(step):
    torch.manual_seed(step)
    inputs, samples = batch(samples=4)
    return dict(inputs=list(inputs), data_samples=samples)


def wrap(model, type='AutoAmpOptimWrapper', lr=1e-3, **kwargs):
    optimizer = dict(type='AdamW', lr=lr)
    return build_optim_wrapper(
        model, dict(type=type, **dict(dict(optimizer=optimizer), **kwargs))
    )


def train(model, optim_wrapper, steps):
    """Loss of every step; each has its batch."""
    return [
        model.train_step(data_of(step), optim_wrapper)['loss'].item()
        for step in steps
    ]


def distance(model, other):
    """Norm of the difference of two models' parameters."""
    pairs = zip(model.parameters(), other.parameters())
    return torch.cat([(a - b).flatten() for a, b in pairs]).norm().item()


def watch_matrices(model):
    """Types of what the linear layers give, by their names."""
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(
                lambda *args, name=name: seen.update({name: args[2].dtype})
            )
    return seen


# Training --------------------------------------------------------------------


def test_matrices_are_bfloat16_and_all_that_stays_is_float32(bf16):
    model = mamp()
    inside = watch_matrices(model)
    optim_wrapper = wrap(model)
    with optim_wrapper.optim_context(model):
        data = model.data_preprocessor(data_of(0), True)
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
    assert model(**data).dtype == torch.float32  # behind the context


def test_training_follows_that_in_float32(bf16):
    model = mamp()
    reference = copy.deepcopy(model)
    steps = [0] * 30
    losses = train(model, wrap(model, lr=3e-3), steps)
    expected = train(reference, wrap(reference, 'OptimWrapper', 3e-3), steps)
    assert expected[-1] < 0.9 * expected[0]
    assert losses == pytest.approx(expected, rel=0.02)
    assert losses != expected  # it was not float32


def gradients(type, **kwargs):
    """Gradients of three batches accumulated, with a fresh model."""
    torch.manual_seed(0)
    model = mamp()
    sgd = dict(type='SGD', lr=0.5)
    optim_wrapper = wrap(
        model, type, accumulative_counts=3, optimizer=sgd, **kwargs
    )
    before = [param.detach().clone() for param in model.parameters()]
    for step in range(3):
        still = zip(model.parameters(), before)
        assert all(torch.equal(param, old) for param, old in still)
        train(model, optim_wrapper, [step])
    pairs = zip(model.parameters(), before)
    return torch.cat([((b - a) / 0.5).flatten() for a, b in pairs]).detach()


def test_gradients_are_accumulated_and_clipped_as_by_the_plain_wrapper(bf16):
    ours, plain = gradients('AutoAmpOptimWrapper'), gradients('OptimWrapper')
    assert 0 < (ours - plain).norm() < 0.03 * plain.norm()
    norm = plain.norm().item()
    clip = dict(clip_grad=dict(max_norm=norm / 4))
    clipped = gradients('AutoAmpOptimWrapper', **clip)
    torch.testing.assert_close(clipped, ours / 4, rtol=0.03, atol=1e-5)


@pytest.mark.parametrize(
    'first, second', [OURS_AND_PLAIN, OURS_AND_PLAIN[::-1]]
)
def test_optimiser_states_are_interchangeable(bf16, first, second):
    """A run of one wrapper is resumed by the other."""
    kwargs = dict(constructor='MAMPLayerDecayConstructor')
    model, resumed_model = mamp(), mamp()
    saved = wrap(model, first, **kwargs)
    train(model, saved, range(3))
    resumed_model.load_state_dict(model.state_dict())
    resumed = wrap(resumed_model, second, **kwargs)
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


def test_without_bfloat16_it_says_so_once_and_is_the_plain_wrapper(
    monkeypatch,
):
    logged = []
    monkeypatch.setattr(
        amp_optim_wrapper, 'supports_bfloat16', lambda device: False
    )
    monkeypatch.setattr(
        amp_optim_wrapper, 'print_log', lambda text, **_: logged.append(text)
    )
    model = mamp()
    reference = copy.deepcopy(model)
    plain = wrap(reference, 'OptimWrapper')
    assert train(model, wrap(model), [0, 1]) == train(reference, plain, [0, 1])
    assert distance(model, reference) == 0
    (message,) = logged
    assert 'no fast bfloat16' in message
    assert 'cpu: training in float32' in message


# What decides ----------------------------------------------------------------


@pytest.mark.parametrize('machine', ['x86_64', 'AMD64', 'aarch64'])
@pytest.mark.parametrize('has', [True, False])
def test_instructions_of_a_processor_decide(monkeypatch, machine, has):
    """Whatever oneDNN would emulate; other makes are left to it."""
    monkeypatch.setattr(platform, 'machine', lambda: machine)
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: has)
    if machine == 'aarch64':
        mkldnn = torch.backends.mkldnn
        monkeypatch.setattr(mkldnn, 'is_available', lambda: has)
        has = has and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    supports = amp_optim_wrapper.supports_bfloat16
    assert supports(torch.device('cpu')) == has
    assert not supports(torch.device('meta'))


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


def test_bfloat16_alone_may_be_named():
    for dtype in ('bfloat16', torch.bfloat16):
        optim_wrapper = wrap(torch.nn.Linear(2, 2), dtype=dtype)
        assert isinstance(optim_wrapper, AutoAmpOptimWrapper)
    for dtype in ('float16', torch.float16, 'int8'):
        with pytest.raises(ValueError, match="dtype=.*type='AmpOptimWrapper'"):
            wrap(torch.nn.Linear(2, 2), dtype=dtype)


# Through the runner ----------------------------------------------------------


@HEADS
def test_an_evaluation_in_bfloat16_has_its_accuracy(tmp_path, head):
    """``val_cfg=dict(fp16=True)`` is bfloat16 on a CPU."""
    path = write(tmp_path / 'data.pkl', data_set(12, 8, joints=V))
    model = recogniser(head)
    inside, scores = watch_matrices(model), []
    model.cls_head.register_forward_hook(lambda *args: scores.append(args[2]))
    runner = Runner(
        model=model,
        experiment_name=uuid.uuid4().hex,
        work_dir=str(tmp_path),
        val_dataloader=loader(path, 'xsub_val', pipeline(T, 1)),
        val_evaluator=dict(type='AccMetric'),
        val_cfg=dict(type='ValLoop', fp16=True),
        default_scope='mmaction',
    )
    metrics = runner.val()
    assert set(inside.values()) == {torch.bfloat16}
    labels = torch.tensor([8, 9, 10, 11]) % 5
    right = torch.cat(scores).argmax(dim=1) == labels
    assert metrics['acc/top1'] == right.float().mean().item()
