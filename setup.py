"""Packaging of mmmaskclip. Version bounds and the reason for each are in mmmaskclip/startup/dependencies.py."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# Run, not imported: importing the package would need what is not installed yet.
bounds = runpy.run_path(str(ROOT / 'mmmaskclip/startup/dependencies.py'))
version = runpy.run_path(str(ROOT / 'mmmaskclip/version.py'))['__version__']
readme = ROOT / 'README.md'

setup(
    name='mmmaskclip',
    version=version,
    description='MaskCLIP: masked self-distillation for contrastive language-image pretraining',
    long_description=readme.read_text() if readme.exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    # 3.10: the type syntax used throughout. Up to 3.13: the newest that every dependency has been tried with.
    python_requires='>=3.10,<3.14',
    packages=find_packages(include=['mmmaskclip', 'mmmaskclip.*']),
    # .mim holds links to configs/ and tools/, where OpenMMLab's tools look for both; a wheel gets the files.
    package_data={
        'mmmaskclip': [
            *('py.typed', 'datasets/prompts/*', 'demo/page/*'),
            *('.mim/*.yml', '.mim/configs/**/*', '.mim/tools/**/*'),
        ],
    },
    install_requires=[str(dependency) for dependency in bounds['RUNTIME']],
    extras_require={
        extra: [str(dependency) for dependency in dependencies] for extra, dependencies in bounds['EXTRAS'].items()
    },
    entry_points={
        'console_scripts': [
            'mmmaskclip = mmmaskclip.cli.overview:command',
            'mmmaskclip-train = mmmaskclip.cli.train:command',
            'mmmaskclip-test = mmmaskclip.cli.test:command',
            'mmmaskclip-demo = mmmaskclip.cli.demo:command',
        ]
    },
)
