"""The scripts that make environments, with a stand-in for uv that notes what it is asked for."""

import os
import shutil
import subprocess

import pytest
from paths import ROOT

UV = """#!/bin/sh
echo "$*" >>"$CALLS"
case $1 in venv)
    for folder; do :; done
    mkdir -p "$folder/bin" && ln -s /bin/true "$folder/bin/python" ;;
esac
"""


@pytest.fixture
def calls(tmp_path):
    """Runs a script of a copy of the repository; gives what uv was asked for."""
    for name in ('tools', 'requirements', 'mmmaskclip/startup'):
        shutil.copytree(ROOT / name, tmp_path / 'clone' / name)
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin/uv').write_text(UV)
    (tmp_path / 'bin/uv').chmod(0o755)

    def run(script, *arguments, **environment):
        variables = dict(PATH=f'{tmp_path}/bin:{os.environ["PATH"]}', CALLS=f'{tmp_path}/calls')
        script = tmp_path / 'clone/tools' / script
        subprocess.run(
            ['sh', script, *arguments], env=os.environ | variables | environment, check=True, capture_output=True
        )
        return (tmp_path / 'calls').read_text().splitlines()

    return run


def test_torch_comes_from_its_index_before_all_others(calls):
    venv, torch, others, package = calls('create_env.sh', 'env', 'tests', TORCH_INDEX='http://localhost/cpu')
    assert venv.startswith('venv ')
    held = (ROOT / 'requirements/constraints.txt').read_text().split()
    versions = [line for line in held if line.startswith(('torch==', 'torchvision=='))]
    assert len(versions) == 2
    assert torch.endswith(f'--index-url http://localhost/cpu {" ".join(versions)}')
    assert '-c requirements/constraints.txt' in others
    assert '--index-url' not in others + package
    assert package.endswith('--no-build-isolation clip-benchmark==1.6.2 -e .')


def test_of_the_held_versions_only_those_give_way_that_transformers_4_cannot_have(calls, tmp_path):
    install = calls('test_matrix.sh', 'transformers4', 'transformers5')
    assert [call.split()[-1] for call in install if '-c .cache' in call] == ['transformers>=4.57,<5', 'transformers>=5']
    held = (ROOT / 'requirements/constraints.txt').read_text().splitlines()
    left_out = {}
    for row in ('transformers4', 'transformers5'):
        kept = (tmp_path / f'clone/.cache/matrix/{row}/constraints.txt').read_text().splitlines()
        left_out[row] = {line.partition('==')[0] for line in {*held} - {*kept}}
    assert left_out == {
        'transformers4': {'huggingface-hub', 'tokenizers', 'datasets', 'fsspec'},
        'transformers5': set(),
    }
