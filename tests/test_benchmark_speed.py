"""tools/benchmark_speed.py: its rows, their agreement, counts and errors."""

from pathlib import Path

import pytest
import torch
import torch.nn as nn

SECTIONS = ('pipeline', 'step', 'parts', 'inference', 'absent', 'runner')


@pytest.fixture(scope='module')
def speed(load_tool):
    return load_tool('benchmark_speed')


@pytest.fixture
def args(speed):
    args = speed.parse_args(['--short', '--device', 'cpu'])
    args.batch_size = 5
    return args


@pytest.fixture
def ann_file(speed, args):
    return speed.write_skeletons(Path('skeletons.pkl'), args)


def test_all_sections_but_that_of_two_processes(speed, capsys):
    speed.main([*SECTIONS, '--short', '--device', 'cpu'])
    text = capsys.readouterr().out
    assert [line[3:] for line in text.splitlines() if line[:2] == '##'] == [
        *SECTIONS
    ]
    assert 'nan' not in text
    rows = [line.strip('| ').split(' | ') for line in text.splitlines()]
    by_name = {tuple(row[:2]): row for row in rows}
    # Four of five samples hold one person; absent ones are all the same.
    persons = [row[2] for row in rows if row[1:2] in (['all'], ['distinct'])]
    assert persons == ['8', '6', '8', '5']
    tokens = [by_name[name, n][1] for name, n in KEPT.items()]
    assert tokens == list(KEPT.values())


KEPT = {
    'keep_ratio=1': '150',
    'keep_ratio=0.5': '75',
    'keep_ratio=0.25': '50',
    'keep_ratio=0.125': '25',
    't_patch_size=12': '50',
    't_patch_size=24': '25',
}


@pytest.mark.long
def test_two_processes(speed, args, ann_file):
    ((_, _, rows),) = speed.bench_processes(ann_file, args)
    assert [row[0] for row in rows] == ['1', '2']


def test_what_is_compared_is_timed_in_turns(speed, args):
    args.rounds, made = 3, []
    calls = {name: lambda name=name: made.append(name) for name in 'ab'}
    times = speed.time_in_turns(calls, args)
    turns = [a for a, b in zip(made, [*made[1:], None]) if a != b]
    assert ''.join(turns) == 'ababab'
    assert all(min(times[name]) > 0 for name in 'ab')


def test_switches(speed, args, ann_file, monkeypatch):
    calls = []

    def counted(q, k, v):
        calls.append(q)
        return attention(q, k, v)

    attention = speed.eager_attention
    monkeypatch.setattr(speed, 'eager_attention', counted)
    plain = speed.switched_step([], ann_file, args)
    plain()
    assert len(calls) == 2  # a block of the encoder, one of the decoder
    switches = ['fused attention', 'merged parameter groups', 'fused AdamW']
    quick = speed.switched_step(switches, ann_file, args)
    quick()
    assert len(calls) == 2
    parameters = len(list(plain.model.parameters()))
    groups = [s.optim_wrapper.optimizer.param_groups for s in (plain, quick)]
    assert [len(g) for g in groups] == [parameters, 2]
    assert [g[0]['fused'] for g in groups] == [None, True]
    # What is merged is what was apart.
    decayed = [
        sum(p.numel() for g in group for p in g['params'] if g['weight_decay'])
        for group in groups
    ]
    assert decayed[0] == decayed[1] > 0


def test_steps_that_disagree_or_cannot_be_made(
    speed, args, ann_file, monkeypatch
):
    """No compiler is a row that says so; another loss ends it all."""

    def fail(function, **kwargs):
        raise RuntimeError('No working C++ compiler found.\nmore')

    monkeypatch.setattr(torch, 'compile', fail)
    args.compile = True
    ((_, _, rows),) = speed.bench_step(ann_file, args)
    error = 'torch.compile: RuntimeError: No working C++ compiler found.'
    names = [row[0] for row in rows]
    assert f'+ {error}' in names
    assert f'pretrain-fast + {error}' in names
    assert {row[1] for row in rows[:4]}.isdisjoint({None})
    monkeypatch.setattr(speed, 'eager_attention', lambda q, k, v: 99 * v)
    with pytest.raises(ValueError, match=r'\+ fused attention: its loss is'):
        list(speed.bench_step(ann_file, args))


def test_memory_is_what_is_saved_each_storage_once(speed):
    class Step:
        model = nn.Linear(4, 3)

        def __call__(self):
            y = self.model(x).relu()  # saves x, the weight and the result
            (y * y[:2].sum()).sum().backward()  # y again, and the sum

    x = torch.randn(5, 4)
    saved = 4 * (5 * 4 + 5 * 3 + 1)
    assert speed.peak_memory(Step()) * 2**20 == saved


@pytest.mark.parametrize(
    'line, said',
    [
        (['speed'], "'speed' is none of pipeline, step, parts"),
        (['--samples', '3', '--batch-size', '4'], '3 is less than a batch'),
        (['--rounds', '0'], '--rounds is less than 1'),
        (['--device', 'cuda:99'], "'cuda:99' cannot be used"),
    ],
)
def test_command_lines_that_cannot_be(speed, line, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        speed.main(['--device', 'cpu', *line])
    assert said in f'{stopped.value.code}{capsys.readouterr().err}'
