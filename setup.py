"""What a wheel carries beside the package; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# Lies under mamp_mmaction/.mim in a wheel, as in other packages of OpenMMLab.
SHIPPED = ('configs', 'tools', 'model-index.yml')
NOT_SHIPPED = ('__pycache__', 'benchmark_speed.py')


class BuildWithMim(build_py):
    """Copies configs and tools into a wheel, never into the source tree."""

    def run(self) -> None:
        """Build the package, then add what lies beside it."""
        if self.editable_mode:
            super().run()
            return
        package = Path(self.build_lib, 'mamp_mmaction')
        # What an earlier build left may have been removed since.
        shutil.rmtree(package, ignore_errors=True)
        super().run()
        target = package / '.mim'
        target.mkdir()
        ignore = shutil.ignore_patterns(*NOT_SHIPPED)
        for name in SHIPPED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=ignore)
            else:
                shutil.copy2(source, target / name)


setup(cmdclass={'build_py': BuildWithMim})
