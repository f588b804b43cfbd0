import mamp_mmaction.machine
from mamp_mmaction.machine import processor_name


def test_the_processor_is_named(monkeypatch, tmp_path):
    assert processor_name()
    info = tmp_path / 'cpuinfo'
    monkeypatch.setattr(mamp_mmaction.machine, 'Path', lambda _: info)
    monkeypatch.setattr('platform.processor', lambda: '')
    monkeypatch.setattr('platform.machine', lambda: 'riscv64')
    assert processor_name() == 'riscv64'
    info.write_text('processor : 0\nmodel name : A: B 3\nmodel name : C\n')
    assert processor_name() == 'A: B 3'
