"""The wheel: what is in it, and a user's run without the checkout."""

import ast
import re
import shutil
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from processes import ROOT, run_successfully

# Commands for maintainers, which stay in the repository.
NOT_SHIPPED = {'tools/benchmark_speed.py'}


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The folder of a wheel, built where an older build has left files."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    skipped = shutil.ignore_patterns('__pycache__')
    for name in ('mamp_mmaction', 'configs', 'tools', 'tests', 'docs'):
        shutil.copytree(ROOT / name, source / name, ignore=skipped)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, source)
    for name in ('build/lib/mamp_mmaction', 'tools/__pycache__'):
        (source / name).mkdir(parents=True)
        (source / name / 'left.py').touch()
    run_successfully(
        *('-m', 'pip', 'wheel', '--quiet', '--no-deps'),
        *('--no-build-isolation', '--wheel-dir', folder, source),
    )
    (path,) = folder.glob('*.whl')
    with zipfile.ZipFile(path) as file:
        file.extractall(folder / 'site')
    return folder / 'site'


def files(folder):
    """All files below a folder but compiled ones, as relative paths."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


@pytest.fixture
def metadata(wheel):
    (path,) = wheel.glob('*.dist-info/METADATA')
    return Parser().parsestr(path.read_text(encoding='utf-8'))


def test_wheel_holds_package_configs_and_commands(wheel):
    mim = {'model-index.yml'}
    for folder in ('configs', 'tools'):
        mim |= {f'{folder}/{name}' for name in files(ROOT / folder)}
    mim -= NOT_SHIPPED
    expected = {f'.mim/{name}' for name in mim} | files(ROOT / 'mamp_mmaction')
    assert files(wheel / 'mamp_mmaction') == expected
    assert {path.name.partition('-')[0] for path in wheel.iterdir()} == {
        'mamp_mmaction'
    }


def imports(path):
    """Names of the packages that a script or module imports by name."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition('.')[0]


def test_wheel_declares_what_it_imports(wheel, metadata):
    """No tool imports another either: they are no packages."""
    requirements = metadata.get_all('Requires-Dist')
    declared = {re.match(r'[\w-]+', line)[0] for line in requirements}
    known = packages_distributions()
    for path in (wheel / 'mamp_mmaction').rglob('*.py'):
        if 'configs' in path.parts:
            continue
        for name in set(imports(path)) - {'mamp_mmaction'}:
            if name not in sys.stdlib_module_names:
                assert declared & set(known.get(name, ())), (path, name)


def test_constraints_pin_what_is_declared(metadata):
    text = (ROOT / 'constraints.txt').read_text(encoding='utf-8')
    pinned = dict(re.findall(r'^([\w-]+)==(\S+)$', text, re.M))
    declared = map(Requirement, metadata.get_all('Requires-Dist'))
    declared = [one for one in declared if one.name != metadata['Name']]
    assert {one.name for one in declared} == pinned.keys()
    for one in declared:
        assert pinned[one.name] in one.specifier, one


def test_extras_are_those_of_the_documents(metadata):
    extras = set(metadata.get_all('Provides-Extra'))
    guide = (ROOT / 'docs' / 'install.md').read_text(encoding='utf-8')
    _, table = guide.split('\n## Extras\n')
    assert set(re.findall(r'^\| `(\w+)` \|', table, re.M)) == extras
    for path in (ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')):
        text = path.read_text(encoding='utf-8')
        for named in re.findall(r'(?:\.|mamp-mmaction)\[([\w,]+)\]', text):
            assert set(named.split(',')) <= extras, (path, named)


CONFIG = """
_base_ = 'mamp_mmaction::mamp/toy/{recipe}_toy-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, ann_file='toy.pkl', num_frames=16)
model = dict(
    backbone=dict(embed_dims=16, depth=1, num_heads=2),
    neck=dict(decoder_embed_dims=16),
)
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
param_scheduler = dict(warmup=0)
train_cfg = dict(max_epochs=1, val_begin=1, val_interval=1)
"""


def test_training_from_the_wheel(wheel, tmp_path):
    """Its commands make data and train; nothing is written beside them."""
    before = files(wheel)
    recipe = 'mamp_1xb32-pretrain-60e'
    (tmp_path / 'tiny.py').write_text(CONFIG.format(recipe=recipe))
    for command in (
        'data/make_toy_dataset toy.pkl --subjects 2 --cameras 2',
        'train tiny.py',
    ):
        output = run_successfully(
            *('-m', 'mamp_mmaction', *command.split()), path=[wheel]
        )
    assert 'masked_motion/mse' in output
    assert {path.name for path in tmp_path.iterdir()} == {
        *('tiny.py', 'toy.pkl', 'work_dirs')
    }
    assert files(wheel) == before
