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


def find_config(path: str) -> str:
    """Return the file of a config.

    Args:
        path (str): Its path, or ``PACKAGE::`` and the path among the configs
            of this package, the toolbox or another that mmengine knows.

    Raises:
        FileNotFoundError: There is no such file.
    """
    from mmengine.config import Config

    if path.startswith(PREFIX):
        file = config_folder() / path.removeprefix(PREFIX)
    elif '::' in path:
        file = Path(Config._get_cfg_path(path, path)[0])
    else:
        file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f'{path!r}: there is no config {file}.')
    return str(file)


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
        try:
            return find_config(cfg_path), None
        except FileNotFoundError as error:
            raise FileNotFoundError(f'{filename} inherits {error}') from None

    get_cfg_path.finds_own_configs = True
    Config._get_cfg_path = staticmethod(get_cfg_path)
