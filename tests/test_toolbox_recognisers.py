"""MAMP's encoder among the toolbox's recognisers, heads and streams."""

import copy
import re
import runpy
import sys
import uuid
from pathlib import Path

import mmaction
import mmengine
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from small_models import T, V, batch, encoder, gcn, gcn_head, recognition
from synthetic import data_set, loader, write

TOOLBOX = Path(mmaction.__path__[0], '.mim', 'tools', 'analysis_tools')
CLASSES = 5
CLIPS = 3


def mamp(joints=25, channels=3, head=None):
    """The encoder under a head of the toolbox."""
    backbone = encoder(num_joints=joints, in_channels=channels)
    return recognition(gcn_head(CLASSES, **(head or {})), backbone)


def test_trains_under_the_toolboxs_head():
    model = MODELS.build(mamp(V, channels=2, head=dict(dropout=0.1)))
    optim_wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), 0.03))
    before = copy.deepcopy(model.state_dict())
    inputs, samples = batch(samples=4, channels=2)
    losses = [
        model.train_step(
            dict(inputs=list(inputs), data_samples=samples), optim_wrapper
        )['loss'].item()
        for _ in range(25)
    ]
    assert losses[-1] < losses[0] / 4
    for name, value in model.named_parameters():
        assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize('average', ['prob', 'score'])
def test_predicts_the_average_of_clips(average):
    model = MODELS.build(mamp(V, head=dict(average_clips=average)))
    model.init_weights()
    inputs = 3 * torch.randn(4, CLIPS, 2, T, V, 3)
    _, samples = batch(samples=4)
    results = model.test_step(dict(inputs=list(inputs), data_samples=samples))
    clips = [
        model(inputs[:, i, None], stage='head', mode='tensor')
        for i in range(CLIPS)
    ]
    if average == 'prob':
        clips = [logits.softmax(dim=1) for logits in clips]
    expected = sum(clips) / CLIPS
    assert not torch.allclose(clips[0], expected, atol=1e-4)
    found = torch.stack([sample.pred_score for sample in results])
    torch.testing.assert_close(found, expected)
    labels = torch.cat([sample.pred_label for sample in results])
    assert torch.equal(labels, expected.argmax(dim=1))


def score(model, feature, ann_file, dump):
    """The toolbox's test loop, which dumps scores; returns the metrics."""
    # The toolbox's test pipeline of ST-GCN++ for a stream.
    steps = [
        dict(type='PreNormalize3D'),
        dict(type='GenSkeFeat', dataset='nturgb+d', feats=[feature]),
        dict(
            type='UniformSampleFrames',
            clip_len=16,
            num_clips=CLIPS,
            test_mode=True,
        ),
        dict(type='PoseDecode'),
        dict(type='FormatGCNInput', num_person=2),
        dict(type='PackActionInputs', meta_keys=('frame_dir',)),
    ]
    # What test.py --dump adds.
    dumping = dict(type='DumpResults', out_file_path=str(dump))
    runner = Runner(
        model=model,
        work_dir=str(dump.parent / 'work'),
        experiment_name=uuid.uuid4().hex,
        test_dataloader=loader(ann_file, 'xsub_val', steps, 'PoseDataset'),
        test_cfg=dict(type='TestLoop'),
        test_evaluator=[dict(type='AccMetric'), dumping],
        default_scope='mmaction',
        log_level='WARNING',
        randomness=dict(seed=0),
    )
    runner.model.init_weights()
    torch.nn.init.normal_(runner.model.cls_head.fc.weight)
    return runner.test()


@pytest.fixture(scope='module')
def streams(tmp_path_factory):
    """A joint stream of MAMP and a bone stream of ST-GCN++, both tested.

    Yields their metrics and dumps.
    """
    folder = tmp_path_factory.mktemp('streams')
    ann_file = write(folder / 'ann.pkl', data_set(train=10))
    dumps = folder / 'mamp.pkl', folder / 'stgcnpp.pkl'
    models = mamp(), recognition(gcn_head(CLASSES), gcn())
    return {
        dump.stem: (score(model, feature, ann_file, dump), dump)
        for dump, model, feature in zip(dumps, models, 'jb')
    }


def test_goes_through_the_test_loop_with_several_clips(streams):
    metrics, dump = streams['mamp']
    samples = mmengine.load(dump)
    assert [sample['frame_dir'] for sample in samples] == [
        f'S{index:03}' for index in range(10, 40)
    ]
    scores = torch.stack([sample['pred_score'] for sample in samples])
    assert scores.shape == (30, CLASSES)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(30))
    labels = torch.cat([sample['gt_label'] for sample in samples])
    right = (scores.argmax(dim=1) == labels).double().mean().item()
    assert metrics['acc/top1'] == pytest.approx(right)


@pytest.fixture
def report_accuracy(capsys, monkeypatch):
    """Runs the toolbox's script; returns what it printed by its name."""
    script = str(TOOLBOX / 'report_accuracy.py')

    def run(dumps, weights):
        arguments = ['--preds', *map(str, dumps), '--coefficients']
        arguments += map(str, weights)
        monkeypatch.setattr(sys, 'argv', [script, *arguments])
        runpy.run_path(script, run_name='__main__')
        lines = capsys.readouterr().out.splitlines()
        return {
            name: float(rate)
            for name, rate in (line.split(': ') for line in lines)
        }

    return run


def test_fuses_with_a_gcn_as_the_toolboxs_script_does(
    streams, report_accuracy, capsys, load_tool
):
    dumps = [str(dump) for _, dump in streams.values()]
    load_tool('fuse_scores').main([*dumps, '--weights', '2', '1'])
    *_, joint, bone, fused = capsys.readouterr().out.splitlines()
    for row, (metrics, dump) in zip((joint, bone), streams.values()):
        assert str(dump) in row
        assert f'{100 * metrics["acc/top1"]:.2f} %' in row
        assert f'{100 * metrics["acc/mean1"]:.2f} %' in row

    theirs = report_accuracy(dumps, [2, 1])
    names = ('Top 1 Accuracy', 'Top 5 Accuracy', 'Mean Class Accuracy')
    ours = re.findall(r'([\d.]+) %', fused)
    assert [float(rate) / 100 for rate in ours] == pytest.approx(
        [theirs[name] for name in names], abs=1e-4
    )
