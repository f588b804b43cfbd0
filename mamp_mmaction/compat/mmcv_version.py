"""The check that a usable mmcv is installed."""

import logging
from importlib import metadata

from mmengine.logging import print_log
from mmengine.utils import digit_version

_MINIMUM, _BELOW = '2.0.0', '2.2.0'
_COMMANDS = (
    "pip install 'mamp-mmaction[lite]' (mmcv-lite, all that skeletons "
    "need), or pip install 'mmcv>=2.0,<2.2' for the toolbox's compiled "
    'operators'
)


def check_mmcv() -> None:
    """Check that one mmcv of a version that MMAction2 takes is installed.

    Warns where both ``mmcv`` and ``mmcv-lite`` are: they own the same files.

    Raises:
        ImportError: If there is no mmcv, or not >=2.0,<2.2.
    """
    distributions = _distributions()
    version = _importable_version()
    if version is None:
        raise ImportError(_missing(distributions))
    found = digit_version(version)
    if not digit_version(_MINIMUM) <= found < digit_version(_BELOW):
        raise ImportError(
            f'mamp_mmaction needs mmcv >={_MINIMUM},<{_BELOW}, found '
            f'{version}. Uninstall it, then run: {_COMMANDS}.'
        )
    if len(distributions) > 1:
        print_log(
            f'Both {" and ".join(distributions)} are installed and own the '
            'same module; which one is imported depends on which came last. '
            'Run pip uninstall -y mmcv mmcv-lite, then one of: '
            f'{_COMMANDS}.',
            logger='current',
            level=logging.WARNING,
        )


def _distributions() -> list:
    found = []
    for name in ('mmcv', 'mmcv-lite'):
        try:
            found.append(f'{name}=={metadata.version(name)}')
        except metadata.PackageNotFoundError:
            continue
    return found


def _importable_version():
    try:
        import mmcv
    except ModuleNotFoundError as error:
        if error.name != 'mmcv':
            raise
        return None
    # Empty folders left by an uninstallation import too, without a version.
    return getattr(mmcv, '__version__', None)


def _missing(distributions) -> str:
    if not distributions:
        return (
            'mamp_mmaction needs mmcv, but neither mmcv nor mmcv-lite is '
            f'installed. Run: {_COMMANDS}.'
        )
    return (
        f'mamp_mmaction needs mmcv: pip lists {distributions[0]}, but its '
        'files are gone, as happens when one of mmcv and mmcv-lite is '
        'removed beside the other. Run: pip install --force-reinstall '
        f"--no-deps '{distributions[0]}'."
    )
