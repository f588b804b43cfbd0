"""tools/export_onnx.py: the file computes what torch does, or is not there."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from processes import ROOT
from small_models import posec3d
from synthetic import data_set, write

from mamp_mmaction.config import load_config

onnxruntime = pytest.importorskip(
    'onnxruntime', reason="needs pip install 'mamp-mmaction[onnx]'"
)
pytest.importorskip('onnxscript')

CLASSES = ('wave', 'sit down', 'stand up', 'throw', 'drink water')
CONFIGS = ROOT / 'configs'
(FINETUNE,) = CONFIGS.glob('mamp/toy/*-finetune-*.py')
(PRETRAIN,) = CONFIGS.glob('mamp/toy/*-pretrain-*.py')
(STGCNPP,) = CONFIGS.glob('stgcnpp/*-scratch-*_msr-*.py')
TEXT = """
_base_ = {base!r}

from mamp_mmaction.config import use_dataset

use_dataset(
    _base_, ann_file='data.pkl', num_classes=5, split='xsub',
    layout='nturgb+d', num_frames=16, num_person={persons})
model = {model!r}
"""
TRANSFORMER = dict(
    backbone=dict(embed_dims=16, depth=1, num_heads=2),
    cls_head=dict(in_channels=16, hidden_dims=64),
)
SMALL_STGCNPP = dict(
    backbone=dict(
        base_channels=8, num_stages=1, inflate_stages=[], down_stages=[]
    ),
    cls_head=dict(in_channels=8),
)


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('export_onnx')


@pytest.fixture
def project():
    """Makes config.py, and model.pth with random weights of its model."""

    def make(base=FINETUNE, model=TRANSFORMER, persons=2):
        text = TEXT.format(base=str(base), model=model, persons=persons)
        Path('config.py').write_text(text)
        recogniser = MODELS.build(load_config('config.py').model).eval()
        for name, buffer in recogniser.named_buffers():
            if 'running' in name:  # as of a trained one
                buffer.uniform_(0.1, 0.9)
        save(recogniser.state_dict())
        return recogniser

    return make


def save(state_dict):
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=state_dict, meta=meta), 'model.pth')


def export(tool):
    tool.main(['config.py', 'model.pth', 'model.onnx'])


@pytest.mark.parametrize(
    ('base', 'model', 'persons'),
    [
        (FINETUNE, TRANSFORMER, 2),
        (STGCNPP, SMALL_STGCNPP, 1),
    ],
    ids=['transformer', 'stgcnpp'],
)
def test_logits_are_those_of_torch(
    base, model, persons, tool, project, capsys, tmp_path
):
    recogniser = project(base, model, persons=persons)
    export(tool)
    assert 'Largest difference from torch: ' in capsys.readouterr().out
    session = onnxruntime.InferenceSession('model.onnx')
    for count in (1, 5):
        x = torch.randn(count, persons, 16, 25, 3)
        x[0, 1:] = 0  # absent
        with torch.no_grad():
            expected, _ = recogniser.extract_feat(x[:, None], stage='head')
        (found,) = session.run(['cls_score'], {'input_tensor': x.numpy()})
        torch.testing.assert_close(
            torch.from_numpy(found), expected, rtol=0, atol=1e-4
        )
        assert expected.std() > 1e-2  # of 1e-4 that would say little
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata.pop('classes')) == list(CLASSES)
    assert metadata == dict(
        num_persons=str(persons),
        num_frames='16',
        num_joints='25',
        num_channels='3',
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {'config.py', 'model.pth', 'model.onnx'}


def test_documented_scripts_give_the_predicted_classes(tool, project, capsys):
    recogniser = project()
    write(Path('data.pkl'), data_set(size=8, train=2))
    export(tool)
    capsys.readouterr()
    text = (ROOT / 'docs' / 'export.md').read_text(encoding='utf-8')
    for name in ('prepare', 'classify'):
        block = text.partition(f'```python\n# {name}.py\n')[2]
        exec(block.partition('```')[0], {})
    clips = torch.from_numpy(np.load('clips.npy'))[:, None]
    assert len(clips) == 6
    with torch.no_grad():
        scores, _ = recogniser.extract_feat(clips, stage='head')
    expected = [CLASSES[best] for best in scores.argmax(dim=1)]
    assert capsys.readouterr().out.splitlines() == expected


def set_classes(state):
    for key in ('cls_head.fc2.weight', 'cls_head.fc2.bias'):
        state[key] = state[key][:3]


def add_a_block(state):
    for key in [key for key in state if '.blocks.0.' in key]:
        state[key.replace('.0.', '.1.')] = state[key]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            set_classes,
            r'fc2.weight: \(3, 64\) instead of \(5, 64\); ',
        ),
        (add_a_block, r'unknown .*blocks.1.*config that'),
        (lambda state: state.pop('backbone.norm.bias'), 'missing .*norm.bias'),
    ],
    ids=['classes', 'depth', 'incomplete'],
)
def test_weights_of_another_model_are_refused(change, message, tool, project):
    state = project().state_dict()
    change(state)
    save(state)
    with pytest.raises(SystemExit, match=f'^error: model.pth.*{message}'):
        export(tool)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (f'_base_ = {str(PRETRAIN)!r}', 'is of a MAMP, .*finetune, linear'),
        (f'model = {posec3d()!r}', 'is of a Recognizer3D, .*expected a'),
        (
            f'_base_ = {str(FINETUNE)!r}\n'
            'model = dict(backbone=dict(keep_ratio=0.5))',
            'keep_ratio=0.5 is not exported',
        ),
    ],
    ids=['pretrain', 'posec3d', 'keep_ratio'],
)
def test_other_models_are_refused(text, message, tool):
    Path('config.py').write_text(text)
    with pytest.raises(SystemExit, match=f'^error: config.py.*{message}'):
        export(tool)


def test_a_file_that_differs_is_not_kept(tool, project, monkeypatch):
    project()
    Path('model.onnx').write_text('of before')
    monkeypatch.setattr(tool, 'TOLERANCE', -1)
    with pytest.raises(SystemExit, match='^error: .*other logits than torch'):
        export(tool)
    assert Path('model.onnx').read_text() == 'of before'


def test_what_to_install_is_said(tool, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(SystemExit, match=r'onnxruntime: pip .*\[onnx\]'):
        export(tool)
