import argparse

import pytest
import torch

from mamp_mmaction.compat import load_checkpoint_file
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
