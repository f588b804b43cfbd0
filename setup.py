import shutil
from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# What a wheel carries under mamp_mmaction/.mim, as toolbox packages do.
MIM = ('configs', 'tools', 'model-index.yml')
VERSION = run_path(str(ROOT / 'mamp_mmaction' / 'version.py'))['__version__']


class BuildWithMim(build_py):
    """Copies configs and tools into a wheel, never into the source tree."""

    def run(self) -> None:
        """Build the package, then add what lies beside it."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'mamp_mmaction', '.mim')
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM:
            source = ROOT / name
            if source.is_dir():
                ignore = shutil.ignore_patterns('__pycache__')
                shutil.copytree(source, target / name, ignore=ignore)
            else:
                shutil.copy2(source, target / name)


setup(
    name='mamp-mmaction',
    version=VERSION,
    description='MAMP, masked motion prediction for skeletons, in MMAction2',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mamp_mmaction', 'mamp_mmaction.*']),
    cmdclass={'build_py': BuildWithMim},
    python_requires='>=3.10',
    # Upper bounds are the newest versions that the tests were run with.
    install_requires=[
        'torch>=2.6,<=2.13.0',
        'numpy>=1.26,<2.5',
        'mmengine==0.10.7',
        'mmaction2==1.2.0',
        # mmaction2 imports it without declaring it.
        'importlib_metadata',
        # mmengine reads `_base_ = 'mmaction::...'` through pkg_resources,
        # which setuptools 82 no longer brings.
        'setuptools<82',
    ],
    extras_require={
        # For environments without mmcv; never install it over a full mmcv.
        'lite': ['mmcv-lite>=2.0,<2.2'],
        'tensorboard': ['tensorboard'],
        'tests': ['pytest', 'pytest-timeout', 'pytest-xdist', 'ruff'],
    },
)
