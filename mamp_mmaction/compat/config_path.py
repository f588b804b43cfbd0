"""Finds ``_base_ = 'mamp_mmaction::...'``, the configs of this package."""

from pathlib import Path

PREFIX = 'mamp_mmaction::'
PACKAGE = Path(__file__).parents[1]


def config_folder() -> Path:
    """Where the configs are: in a wheel's ``.mim`` or in a source tree."""
    for folder in (PACKAGE / '.mim', PACKAGE.parent):
        if (folder / 'configs' / '_base_').is_dir():
            return folder / 'configs'
    raise FileNotFoundError(
        f'{PACKAGE} was installed without its configs: install a wheel of '
        'mamp-mmaction, or its source tree by pip install -e.'
    )


def find_own_configs() -> None:
    """Let mmengine resolve the prefix of this package.

    mmengine knows the prefixes of its own projects only. Unlike theirs this
    one opens no scope: the components are in the toolbox's.
    """
    # Not before the check for mmcv, which mmengine's imports ask for.
    from mmengine.config import Config

    original = Config._get_cfg_path
    if getattr(original, 'finds_own_configs', False):
        return

    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if not cfg_path.startswith(PREFIX):
            return original(cfg_path, filename)
        path = config_folder() / cfg_path.removeprefix(PREFIX)
        if not path.is_file():
            raise FileNotFoundError(
                f'{filename} inherits {cfg_path!r}, but there is no {path}.'
            )
        return str(path), None

    get_cfg_path.finds_own_configs = True
    Config._get_cfg_path = staticmethod(get_cfg_path)
