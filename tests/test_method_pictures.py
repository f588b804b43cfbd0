"""Pictures of a sample, its masks and the predicted motion."""

import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from matplotlib.quiver import Quiver
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from small_models import encoder, pretraining, recognition
from synthetic import annotation, data_set, loader, pipeline, write
from tensorboard.backend.event_processing import event_accumulator

from mamp_mmaction.datasets import toy
from mamp_mmaction.evaluation.masked_sample import (
    build_dataset,
    compare_masks,
    masked_sample,
)
from mamp_mmaction.layouts import LAYOUTS, get_layout, register_layout
from mamp_mmaction.patches import unpatchify
from mamp_mmaction.utils import method_pictures

FRAMES, SIDES = 16, ('left', 'right')
PIXELS = dict(joints=17, channels=2)
NTU, COCO = get_layout('nturgb+d'), get_layout('coco')


def model_cfg(joints=25, channels=3, **head):
    sized = encoder(num_joints=joints, num_frames=FRAMES, in_channels=channels)
    return pretraining(backbone=sized, **head)


def steps(frames=FRAMES):
    """A pipeline of two persons that masks by a seed."""
    every = pipeline(frames, 2, 0.8)
    every[1]['test_mode'] = True
    every[3]['seed'] = 0
    return every


def read(tmp_path, sample):
    """The sample as a random model sees and predicts it, and the model."""
    path = write(tmp_path / 'one.pkl', [sample])
    cfg = dict(type='SkeletonDataset', pipeline=steps())
    sizes = sample['keypoint'].shape[2:]
    model = MODELS.build(model_cfg(*sizes, norm_target=False))
    model.init_weights()
    return masked_sample(model, build_dataset(cfg, path), 0), model


def toy_pair():
    """Two persons who shake hands."""
    _, annotations = toy.make_dataset(2, 1, 2, 20, 30, seed=0)
    return annotations[28]


@pytest.fixture
def pair(tmp_path):
    return read(tmp_path, toy_pair())


def parts(figure):
    """Sequence, panels of the first person, arrows."""
    return [part.axes for part in (*figure.subfigs[:2], figure.subfigs[-1])]


def test_what_is_masked_is_faded_and_told_apart(pair):
    sample, _ = pair
    assert sample.persons == [0, 1]
    (axes,), _, _ = parts(method_pictures.draw_sheet(sample, NTU))
    segments = FRAMES // 4
    hidden = sample.mask.reshape(2, segments, 25)
    for person, bones, dots in zip(
        (0, 1), axes.collections[::2], axes.collections[1::2]
    ):
        faded = dots.get_facecolors()[:, 3] < 1
        assert faded.tolist() == hidden[person].ravel().tolist()
        ends = hidden[person][:, np.array(NTU.inward)].any(axis=2)
        assert (bones.get_colors()[:, 3] < 1).tolist() == ends.ravel().tolist()
    numbers = [text.get_text() for text in axes.texts]
    assert numbers.count('1') == numbers.count('2') == segments


@pytest.mark.parametrize(
    ('layout', 'make', 'up'),
    [(NTU, toy_pair, 1), (COCO, lambda: annotation(0, **PIXELS), -1)],
)
def test_arrows_are_the_target_and_the_prediction(tmp_path, layout, make, up):
    """Of masked joints alone, x and y at one scale, which is written."""
    sample, model = read(tmp_path, make())
    keypoint = torch.from_numpy(sample.keypoint)
    joints = layout.num_joints
    target = unpatchify(model.head.target_patches(keypoint), 4, joints)
    target = target.numpy()
    np.testing.assert_allclose(sample.true_motion, target, atol=1e-6)
    *_, (axes,) = parts(method_pictures.draw_sheet(sample, layout))
    frames = [int(label.get_text()) for label in axes.get_xticklabels()]
    drawn = np.array(axes.collections[1].get_offsets())[:2]
    known = sample.keypoint[0, frames[0], :2, :2]
    scale = np.linalg.norm(drawn[0] - drawn[1])
    scale /= np.linalg.norm(known[0] - known[1])
    times = method_pictures.arrow_scale(sample, layout == COCO)
    assert f' {times:g} times as long' in axes.get_title('left')
    shown = sample.masked_joints & sample.keypoint.any(axis=(2, 3))[..., None]
    shown = shown[:, frames]
    arrows = [x for x in axes.collections if isinstance(x, Quiver)]
    for arrow, motion in zip(arrows, (target, sample.pred_motion)):
        expected = scale * times * motion[:, frames][shown][:, :2] * (1, up)
        np.testing.assert_allclose(
            np.stack([arrow.U, arrow.V], 1), expected, atol=1e-5
        )
    assert len(arrows) == 2


def test_masks_of_all_kinds_hide_as_many_tokens(pair):
    sample, _ = pair
    masks = compare_masks(sample, [0.01, 0.8], NTU.limbs)
    assert len(masks) == 5
    visible = (~sample.mask).sum(axis=1).tolist()
    intensity = method_pictures._intensity(sample)
    hidden = []
    for mask in masks.values():
        assert (~mask).sum(axis=1).tolist() == visible
        hidden.append((intensity * sample.by_segment(mask)).sum())
    assert hidden[1] > hidden[2] > hidden[0]


@pytest.mark.parametrize('joints', [20, 49])
def test_any_joints_are_drawn_by_name(tmp_path, joints):
    names = [f'{side}_{i}' for side in SIDES for i in range(joints // 2)]
    names += ['trunk'] * (joints % 2)
    rows = [(name, names[max(i - 1, 0)]) for i, name in enumerate(names)]
    layout = register_layout('chain', origin=names[0], joints=rows)
    del LAYOUTS['chain']
    sample, _ = read(tmp_path, annotation(0, joints=joints))
    for given, expected in (
        (layout, {name.replace('_', ' ') for name in names}),
        (None, {f'joint {i}' for i in range(joints)}),
    ):
        _, panels, _ = parts(method_pictures.draw_sheet(sample, given))
        labels = panels[0].get_yticklabels()
        assert {label.get_text() for label in labels} == expected


# The command


@pytest.fixture
def run(tmp_path, load_tool, capsys):
    """Runs the command on a pre-training, changed by keyword arguments."""
    data = write(tmp_path / 'toy.pkl', [toy_pair()])
    model = MODELS.build(model_cfg())
    torch.save(model.state_dict(), tmp_path / 'weights.pth')

    def run(*options, sample=None, out='a.png', weights=True, **changes):
        val = dict(type='SkeletonDataset', pipeline=steps())
        val.update(changes.pop('dataset', {}))
        cfg = dict(model=model_cfg(), val_dataloader=dict(dataset=val))
        cfg.update(model_layout='nturgb+d')
        cfg = Config(dict(cfg, **changes))
        cfg.dump(tmp_path / 'config.py')
        words = [data, tmp_path / 'config.py']
        words += [tmp_path / 'weights.pth'] * weights
        words += ['--sample', sample or toy_pair()['frame_dir']]
        words += ['--out', tmp_path / out, *options]
        load_tool('show_method').main([str(word) for word in words])
        return tmp_path / out

    return run


def test_command_draws(run):
    with_arrows, without = (imread(run(weights=x)) for x in (True, False))
    assert len(with_arrows) > len(without) > 500


def test_command_moves_the_skeleton(run):
    short = dict(pipeline=steps(8))
    small = pretraining(encoder(num_joints=25, num_frames=8))
    path = run(out='a.gif', weights=False, dataset=short, model=small)
    with Image.open(path) as image:
        first = np.asarray(image.convert('RGB'))
        image.seek(7)
        assert (first != np.asarray(image.convert('RGB'))).any()
        assert image.n_frames == 8


BONES = [*steps()[:2], dict(type='SkeletonStream', stream='bone')]
BONES = [*BONES, *steps()[2:]]
BONES[2]['layout'] = 'nturgb+d'


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(sample='S001C001P002R001A015'), 'no sample .*similar names are'),
        (dict(model=model_cfg(20)), 'weights.pth: .*does not fit'),
        (dict(model=recognition()), 'is no pre-training: .*RecognizerGCN'),
        (dict(model=None), 'config.py has no model'),
        (dict(val_dataloader=None), 'config.py has no val_dataloader'),
        (dict(model=dict(type='Unheard')), 'Unheard is not in the'),
        (dict(model=model_cfg(target='joint')), 'predicts joint, but arrows'),
        (dict(dataset=dict(pipeline=BONES)), "stream 'bone', whose numbers"),
        (dict(dataset=dict(pipeline=steps()[:3] + steps()[4:])), "no 'mask'"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_line(run, changes, message):
    with pytest.raises(SystemExit, match=f'^error: .*{message}'):
        run(**changes)


# The hook


def train(tmp_path, hooks=(), **changes):
    """Two epochs of random masks, and a loss a step."""
    data = write(tmp_path / 'ann.pkl', data_set(size=10, train=8, frames=20))
    random_steps = pipeline(FRAMES, 2, 0.8)
    cfg = dict(
        default_scope='mmaction',
        work_dir=str(tmp_path / uuid.uuid4().hex),
        experiment_name=uuid.uuid4().hex,
        model=dict(model_cfg(), decode_ratio=0.5),
        train_dataloader=loader(data, 'xsub_train', random_steps),
        val_dataloader=loader(data, 'xsub_val', random_steps),
        val_evaluator=dict(type='MaskedMotionMetric'),
        val_cfg=dict(type='ValLoop'),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3, val_begin=9),
        optim_wrapper=dict(
            type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2)
        ),
        vis_backends=None,
        visualizer=dict(
            type='ActionVisualizer',
            vis_backends=[
                dict(type='LocalVisBackend'),
                dict(type='TensorboardVisBackend'),
            ],
        ),
        custom_hooks=list(hooks),
        randomness=dict(seed=0),
    )
    runner = Runner.from_cfg(Config(dict(cfg, **changes)))
    runner.train()
    return runner


NO_VALIDATION = dict.fromkeys(('val_dataloader', 'val_evaluator', 'val_cfg'))
HOOK = dict(type='MotionPictureHook', interval=2, samples=1, layout='nturgb+d')


def test_training_does_not_notice_the_hook(tmp_path):
    """The data and the model draw random numbers, in pictures too."""
    plain, drawn = train(tmp_path), train(tmp_path, [HOOK])
    losses = [
        runner.message_hub.get_scalar('train/loss').data[0]
        for runner in (plain, drawn)
    ]
    assert len(losses[0]) == 6 and (losses[0] == losses[1]).all()
    for key, value in plain.model.state_dict().items():
        assert torch.equal(value, drawn.model.state_dict()[key]), key
    assert all(module.training for module in drawn.model.modules())

    folder = Path(drawn.log_dir, 'vis_data')
    pictures = sorted(path.name for path in folder.rglob('*.png'))
    assert pictures == ['motion_S008_2.png', 'motion_S008_3.png']
    events = event_accumulator.EventAccumulator(str(folder)).Reload()
    assert events.Tags()['images'] == ['motion_S008']
    assert [image.step for image in events.Images('motion_S008')] == [2, 3]


@pytest.mark.parametrize(
    ('hook', 'changes', 'message'),
    [
        (dict(interval=0), {}, 'interval=0'),
        (dict(samples=0), {}, 'samples=0'),
        (dict(samples=['S000']), {}, "no sample 'S000' among 2.*'S008'"),
        (dict(layout='coco'), {}, "25 joints, but the layout 'coco' has 17"),
        ({}, dict(model=model_cfg(target='joint')), 'predicts joint'),
        ({}, NO_VALIDATION, 'no val_dataloader'),
    ],
)
def test_hook_that_cannot_draw_stops_before_the_training(
    tmp_path, hook, changes, message
):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, [dict(HOOK, **hook)], **changes)
