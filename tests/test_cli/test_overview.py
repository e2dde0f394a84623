import os
import subprocess
import sys

import pytest
from paths import CONFIGS, ROOT, TOOLS

from mmmaskclip.cli.overview import find_tools, main


def test_every_command_and_config_is_listed(capsys):
    main([])
    text = capsys.readouterr().out
    inner = {'create_env', 'dist_launch', 'slurm_launch', 'test_matrix'}
    for name in {path.stem for path in (*TOOLS.rglob('*.py'), *TOOLS.glob('*.sh'))} - inner:
        assert f'\n  {name} ' in text, name
    for path in CONFIGS.glob('[!_]*/*.py'):
        assert f' {path.stem}' in text, path
    assert all(line.strip() for line in text.split('Commands:')[1].splitlines()[1:3])


def test_commands_run_by_their_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [])
    with pytest.raises(SystemExit) as stopped:
        main(['train', '--help'])
    assert stopped.value.code == 0
    assert 'usage: train.py' in capsys.readouterr().out

    def execv(path, arguments):
        print(path, *arguments[1:])
        raise SystemExit(0)  # it does not come back either

    monkeypatch.setattr(os, 'execv', execv)
    with pytest.raises(SystemExit):
        main(['dist_train', 'a.py', '2'])
    assert capsys.readouterr().out == f'/bin/sh {find_tools()["dist_train"]} a.py 2\n'
    with pytest.raises(SystemExit) as stopped:
        main(['trian'])
    assert stopped.value.code == 2
    assert "no command 'trian'. There are: " in capsys.readouterr().err


def test_a_reader_that_takes_the_first_lines_is_no_error():
    code = 'from mmmaskclip.cli.overview import command; command()'
    with subprocess.Popen(
        [sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        run.stdout.close()  # as `mmmaskclip | head` does
        assert (run.stderr.read(), run.wait()) == (b'', 0)


def test_a_wheel_holds_configs_and_tools(tmp_path):
    # What a wheel holds is what build_py copies; to build a whole one takes ten times as long.
    build = [sys.executable, 'setup.py', '-q', 'egg_info', '-e', str(tmp_path), 'build_py', '--build-lib']
    subprocess.run([*build, str(tmp_path / 'wheel')], cwd=ROOT, check=True, capture_output=True)
    mim = tmp_path / 'wheel/mmmaskclip/.mim'
    for source in (CONFIGS, TOOLS):
        files = {path.relative_to(source) for path in source.rglob('*') if path.is_file() and path.suffix != '.pyc'}
        copied = {path.relative_to(mim / source.name) for path in (mim / source.name).rglob('*') if path.is_file()}
        assert files <= copied
    assert not any(path.is_symlink() for path in mim.rglob('*'))
    assert os.access(mim / 'tools/dist_launch.sh', os.X_OK)
    # Outside of a clone, from the wheel's files.
    code = 'from mmmaskclip.cli.shipped import find_config as f; print(f("clip/vitxs16_scenes.py"))'
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path / 'wheel')}
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(mim / 'configs/clip/vitxs16_scenes.py'), done.stderr
