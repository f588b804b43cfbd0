r"""Run a script of the toolbox, or a tool of this project, with MAMP loaded.

Usage: python -m mamp_mmaction TOOL ARGUMENTS

Some scripts import the toolbox, or load a checkpoint, before they read a
config, and so before the config's custom_imports could load this package.
TOOL is a script's name, with or without its folder: train, test,
confusion_matrix, deployment/publish_model. Two processes train by

    torchrun --nproc_per_node=2 -m mamp_mmaction train CONFIG \
        --launcher pytorch
"""

import importlib
import runpy
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path


def main():
    """Run the command."""
    tools = {name: _find_scripts(name) for name in (__package__, 'mmaction')}
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ('-h', '--help'):
        print(f'{__doc__}\n{_listed(tools)}')
        return
    script = _choose(arguments[0], tools)
    # The package loads nothing before a tool is known.
    importlib.reload(sys.modules[__package__])
    if script.parent.name in ('convert', 'deployment'):
        _let_torch_load_checkpoints()
    arguments = _without_double_amp(script, arguments[1:])
    sys.argv = [str(script), *_resuming_first(script, arguments)]
    runpy.run_path(str(script), run_name='__main__')


def _find_scripts(package):
    """The scripts of a package by their paths in tools/, without suffix."""
    spec = find_spec(package)
    if spec is None:
        return {}
    root = Path(spec.origin).parent
    # A wheel carries tools/ along; beside a source tree it lies.
    folders = (root / '.mim' / 'tools', root.parent / 'tools')
    folder = next(filter(Path.is_dir, folders), None)
    if folder is None:
        return {}
    return {
        path.relative_to(folder).with_suffix('').as_posix(): path
        for path in sorted(folder.rglob('*.py'))
    }


def _choose(wanted, tools):
    """The script that a command line names."""
    name = wanted.removesuffix('.py').removeprefix('tools/')
    scripts = [pair for found in tools.values() for pair in found.items()]
    exact = [path for known, path in scripts if known == name]
    ending = [
        (known, path)
        for known, path in scripts
        if f'/{known}'.endswith(f'/{name}')
    ]
    if exact or len(ending) == 1:
        return exact[0] if exact else ending[0][1]
    if ending:
        names = ', '.join(known for known, _ in ending)
        sys.exit(f'error: {wanted!r} may be {names}: give the folder, too.')
    sys.exit(f'error: there is no tool {wanted!r}.\n{_listed(tools)}')


def _listed(tools):
    """What there is, for the help."""
    titles = f'Tools of {__package__}:', 'Scripts of mmaction:'
    return '\n'.join(
        f'{title}\n'
        + textwrap.fill(
            ', '.join(names),
            width=79,
            initial_indent='    ',
            subsequent_indent='    ',
            break_on_hyphens=False,
        )
        for title, names in zip(titles, tools.values())
    )


def _let_torch_load_checkpoints():
    """Make torch.load, which these scripts call, read mmengine's files."""
    import torch

    from .compat import load_checkpoint_file

    torch.load = load_checkpoint_file


def _without_double_amp(script, arguments):
    """Drop --amp where the config's own wrapper does what it asks for.

    train.py knows the toolbox's wrappers only and stops at others.
    """
    configs = [argument for argument in arguments if argument[-3:] == '.py']
    if script.name != 'train.py' or '--amp' not in arguments or not configs:
        return arguments
    from mmengine.config import Config

    wrapper = Config.fromfile(configs[0]).get('optim_wrapper', {})
    if wrapper.get('type') != 'AutoAmpOptimWrapper':
        return arguments
    print(f'{configs[0]} trains in mixed precision already: --amp is dropped.')
    return [argument for argument in arguments if argument != '--amp']


def _resuming_first(script, arguments):
    """Let --resume go before a load_from on the command line.

    train.py would take what load_from names for a checkpoint of this run. A
    run that has none yet begins with it.
    """
    if script.name != 'train.py' or '--resume' not in arguments:
        return arguments
    behind = arguments[arguments.index('--resume') + 1 :]
    if behind and not behind[0].startswith('-'):  # resume this file
        return arguments
    return [
        argument.replace('load_from=', 'begin_from=', 1)
        if argument.startswith('load_from=')
        else argument
        for argument in arguments
    ]


if __name__ == '__main__':
    main()
