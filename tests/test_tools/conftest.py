import os
import subprocess
import sys

import pytest
from paths import ROOT, TINY


@pytest.fixture(scope='session')
def run_tool():
    """Returns a function that runs a tool as a user does and gives the finished process; it must end with ``code``."""

    def run(*command, code=0, **environment):
        env = {
            name: value for name, value in os.environ.items() if name not in ('NNODES', 'NODE_RANK', 'OMP_NUM_THREADS')
        }
        env |= {'PYTHONPATH': f'{ROOT}:{TINY}', 'PYTHON': sys.executable, **environment}
        done = subprocess.run(
            [str(part) for part in command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == code, f'{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}'
        return done

    return run
