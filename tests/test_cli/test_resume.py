"""--resume in several processes. What it chooses is in test_train.py."""

import json
import os
from pathlib import Path

from mmengine.config import Config
from ranks import run_ranks

from mmmaskclip.checkpoints import files
from mmmaskclip.checkpoints.files import write_checkpoint
from mmmaskclip.cli.resume import set_resume_on_all_ranks
from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.startup.processes import setup_processes


def test_rank_0_hashes_the_newest_checkpoint_and_tells_the_others(tmp_path):
    write_checkpoint(tmp_path / 'iter_9.pth', {'meta': {}})
    run_ranks(resume_as_one_of_two, tmp_path)
    first, second = (json.loads((tmp_path / f'{rank}.json').read_text()) for rank in range(2))
    assert first.pop('hashed') == 2
    assert second.pop('hashed') == 0
    assert first == second
    assert first['load_from'] == [str(tmp_path / 'iter_9.pth'), True]
    assert 'iter_9.pth: it is damaged' in first['mistake']


def resume_as_one_of_two(folder: Path) -> None:
    hashed = []
    sha256_of = files.sha256_of
    files.sha256_of = lambda path: hashed.append(path) or sha256_of(path)
    cfg = Config({'launcher': 'pytorch', 'work_dir': str(folder)})
    setup_processes(cfg)
    note = set_resume_on_all_ranks(cfg, 'auto')
    chosen = [cfg.load_from, cfg.resume]
    if os.environ['RANK'] == '0':
        (folder / 'iter_9.pth').write_bytes(b'half')
    try:
        set_resume_on_all_ranks(cfg, str(folder / 'iter_9.pth'))
    except ConfigMistake as error:
        found = {'note': note, 'load_from': chosen, 'mistake': str(error), 'hashed': len(hashed)}
        (folder / f'{os.environ["RANK"]}.json').write_text(json.dumps(found))
