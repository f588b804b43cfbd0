import argparse

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from small_models import (
    batch,
    encoder,
    finetune_head,
    linear_head,
    mamp,
    recogniser,
)

from mamp_mmaction.compat import load_checkpoint_file
from mamp_mmaction.layouts import LAYOUTS, joint_indices
from mamp_mmaction.models.reference_weights import from_reference, to_reference


@pytest.fixture
def main(load_tool):
    return load_tool('convert_checkpoint').main


def kinds(parity):
    """The reference's three kinds of weights."""
    encoder = {
        key: value
        for key, value in parity.state.items()
        if 'decoder' not in key and key != 'mask_token'
    }
    return {
        'pre-training': parity.state,
        'linear probe': encoder | parity.tensors('linprobe.state.'),
        'fine-tuned': encoder | parity.tensors('finetune.state.'),
    }


@pytest.mark.parametrize(
    'kind', ['pre-training', 'linear probe', 'fine-tuned']
)
def test_round_trip_is_bit_identical(parity, kind):
    state = kinds(parity)[kind]
    back = to_reference(from_reference(state), parity.config.t_patch_size)
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(back[key], value), key


def test_command_line_round_trip(parity, tmp_path, main, capsys):
    src, ours, back = (tmp_path / f'{n}.pth' for n in ('src', 'ours', 'back'))
    # What the reference's own code saves.
    checkpoint = dict(
        model=parity.state,
        optimizer=dict(state={}, param_groups=[dict(lr=1e-3, params=[0])]),
        epoch=3,
        scaler=dict(scale=65536.0, growth_tracker=0),
        args=argparse.Namespace(lr=1e-3, output_dir='out', dist_url='env://'),
    )
    torch.save(checkpoint, src)
    main([str(src), str(ours)])
    converted = load_checkpoint_file(ours)['state_dict']
    expected = from_reference(parity.state)
    assert converted.keys() == expected.keys()
    assert f'{len(expected)} tensors' in capsys.readouterr().out

    main([str(ours), str(back), '--to-reference'])
    state = load_checkpoint_file(back)['model']
    assert all(torch.equal(state[k], v) for k, v in parity.state.items())
    assert {path.name for path in tmp_path.iterdir()} == {
        'src.pth',
        'ours.pth',
        'back.pth',
    }


def test_every_misfit_is_listed(parity):
    state = dict(parity.state)
    state['extra.weight'] = torch.zeros(1)
    state['norm.bias'] = torch.zeros(3)
    del state['decoder_pred.bias'], state['blocks.0.attn.qkv.bias']
    with pytest.raises(ValueError) as error:
        from_reference(state)
    for text in (
        'unknown extra.weight',
        'missing neck.pred.bias',
        'missing backbone.blocks.0.attn.qkv.bias',
        'backbone.norm.bias: (3,) instead of (16,)',
    ):
        assert text in str(error.value)


def test_other_weights_are_no_mamp_weights():
    with pytest.raises(ValueError, match='no MAMP weights.*such as conv1'):
        from_reference({'conv1.weight': torch.zeros(1)})


def test_wrong_patch_size_on_the_way_back(parity):
    with pytest.raises(ValueError, match='t_patch_size=7.*12'):
        to_reference(from_reference(parity.state), t_patch_size=7)


def test_broken_files_are_refused_and_nothing_is_written(tmp_path, main):
    text, plain, other, dst = (
        tmp_path / f'{n}.pth' for n in ('text', 'plain', 'other', 'dst')
    )
    text.write_text('not a checkpoint')
    torch.save(dict(weights={}), plain)
    torch.save(dict(model={'conv1.weight': torch.zeros(1)}), other)
    for src, words in (
        (text, 'cannot be read'),
        (plain, "no 'model'"),
        (other, 'no MAMP weights'),
        (tmp_path / 'none.pth', 'does not exist'),
    ):
        with pytest.raises(SystemExit, match=f'^error: .*{words}') as error:
            main([str(src), str(dst)])
        assert str(error.value).count(str(src)) == 1
    assert not dst.exists()


# From one skeleton to another ------------------------------------------------

TO_KINECT = ['--from-layout', 'nturgb+d', '--to-layout', 'kinect_v1']
ROWS = joint_indices('nturgb+d', 'kinect_v1')


def carry(model, other, main, folder, options=TO_KINECT):
    """Load a model's converted weights into another; returns their keys."""
    src, dst = folder / 'src.pth', folder / 'dst.pth'
    torch.save(dict(state_dict=model.state_dict()), src)
    main([*options, str(src), str(dst)])
    state = load_checkpoint_file(dst)['state_dict']
    load_state_dict(other, dict(state))
    return state.keys()


def test_a_carried_encoder_gives_the_features_of_its_joints(tmp_path, main):
    model = mamp(encoder(num_joints=25)).eval()
    small = mamp(encoder(num_joints=20)).eval()
    keys = carry(model, small, main, tmp_path)
    assert keys == model.state_dict().keys()
    x = torch.randn(2, 16, 25, 3)
    # The same tokens: segment by segment, joint by joint of the target.
    tokens = torch.tensor([t * 25 + v for t in range(4) for v in ROWS])
    visible = tokens.expand(2, -1)
    with torch.no_grad():
        expected = model.backbone.encode(x, visible)
        found = small.backbone.encode(x[:, :, ROWS])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        small.neck.spatial_embed, model.neck.spatial_embed[:, :, ROWS]
    )
    small(*batch(joints=20), mode='loss')


@pytest.mark.parametrize('make', [linear_head, finetune_head])
def test_a_carried_head_goes_on_with_the_joints_that_stay(
    make, tmp_path, main
):
    sizes = {} if make is linear_head else dict(num_joints=25)
    model = recogniser(make(6) | sizes, encoder(num_joints=25))
    if sizes:
        sizes = dict(num_joints=20)
    small = recogniser(make(6) | sizes, encoder(num_joints=20))
    carry(model, small, main, tmp_path)
    # Features of the joints that go are 0: they add nothing.
    features = torch.zeros(2, 1, 16, 4, 25)
    features[..., ROWS] = torch.randn(2, 1, 16, 4, 20)
    heads = model.eval().cls_head, small.eval().cls_head
    scale = 1 if sizes else 20 / 25  # a linear probe averages over joints
    torch.testing.assert_close(
        heads[0](features), heads[1](scale * features[..., ROWS])
    )


def test_a_head_that_cannot_be_carried_is_left_out(tmp_path, main, capsys):
    model = recogniser(backbone=encoder(num_joints=25))
    model.cls_head.fc1 = torch.nn.Linear(30, 8)
    small = recogniser(linear_head(), encoder(num_joints=20))
    before = small.cls_head.fc.weight.clone()
    keys = carry(model, small, main, tmp_path)
    assert {key.split('.')[0] for key in keys} == {'backbone'}
    assert torch.equal(small.cls_head.fc.weight, before)
    assert 'Left out is the head' in capsys.readouterr().out


def test_weights_that_do_not_go_by_these_joints(tmp_path, main):
    src, dst = str(tmp_path / 'src.pth'), str(tmp_path / 'dst.pth')
    back = ['--from-layout', 'kinect_v1', '--to-layout', 'nturgb+d']
    for state, options, words in (
        (mamp().state_dict(), back, "'kinect_v1' lacks .*left_thumb"),
        (mamp().state_dict(), TO_KINECT, r'\(1, 1, 7, 16\).* 25 joints'),
        ({'conv1.weight': torch.zeros(1)}, TO_KINECT, 'no backbone.spatial'),
    ):
        torch.save(dict(state_dict=state), src)
        with pytest.raises(SystemExit, match=f'^error: {src}.*{words}'):
            main([*options, src, dst])
    with pytest.raises(SystemExit):
        main([*TO_KINECT[:2], src, dst])
    assert not (tmp_path / 'dst.pth').exists()


def test_a_layout_of_ones_own_is_given_by_a_file(tmp_path, main):
    file = tmp_path / 'arms.py'
    file.write_text(
        'from mamp_mmaction.layouts import register_layout\n'
        "register_layout('hands', origin='head', joints=[\n"
        "    ('right_hand', 'head'), ('left_hand', 'head'),\n"
        "    ('head', 'head')])\n"
    )
    options = [*TO_KINECT[:3], str(file)]
    model = mamp(encoder(num_joints=25))
    small = mamp(encoder(num_joints=3))
    try:
        carry(model, small, main, tmp_path, options)
    finally:
        LAYOUTS.pop('hands', None)
    torch.testing.assert_close(
        small.backbone.spatial_embed,
        model.backbone.spatial_embed[:, :, [11, 7, 3]],
    )


def test_widths_that_are_no_multiple():
    """A block's hidden width is rounded down from its share of the width."""
    width, hidden = 304, 810
    small = dict(embed_dims=width, mlp_ratio=8 / 3, num_heads=8)
    state = mamp(encoder(**small)).state_dict()
    assert state['backbone.blocks.0.mlp.fc1.weight'].shape[0] == hidden
    assert to_reference(state).keys()
