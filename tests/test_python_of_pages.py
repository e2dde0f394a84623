"""Every Python block of README and docs runs on what is shipped, small, or says why it is not run.

Settings are trained with as a config for an epoch of two steps, on top of the config that they name; a block whose
first line names a file of the package runs inside that module; one that names another file is that module; all others
run as they are, with the variables of the blocks before them on the page.
"""

import ast
import importlib
import re
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.config import Config, ConfigDict
from one_layer import shrink
from pages import PAGES, read_page
from paths import CONFIGS, ROOT
from user_folder import CONFIG, furnish, make_small, write_weights

import mmmaskclip.cli.train
from mmmaskclip.cli.config import leave_out_without_loader
from mmmaskclip.config_check.check import check_config
from mmmaskclip.datasets.scenes.writer import default_splits, write_shards
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.models.backbones.read_outs import READ_OUTS
from mmmaskclip.registry import DATASETS, MODELS

BLOCKS = {page.name: blocks for page in PAGES if (blocks := read_page(page)[1])}
SETTINGS = {'_base_', 'train_dataloader', 'val_dataloader'}


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """The user's folder, in which shipped configs are read small, and configs of the user's too."""
    register_all_modules()
    folder = tmp_path_factory.mktemp('home')
    furnish(folder)
    write_shards(folder / 'data/scenes/shards', default_splits(4, 8), 64, 0, 8)
    read = Config.fromfile

    def read_small(*args, **kwargs):
        cfg = read(*args, **kwargs)
        make_small(cfg)
        return cfg

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setattr(Config, 'fromfile', staticmethod(read_small))
        patch.setattr(torchvision.datasets.cifar, 'check_integrity', lambda *_args, **_kwargs: True)
        patch.setenv('MMMASKCLIP_DATA', 'data')
        patch.setenv('MMMASKCLIP_SCENES', 'data/scenes')
        patch.setenv('MMMASKCLIP_EVAL', 'data/zero_shot')
        patch.setenv('MMMASKCLIP_PAIRS', 'FOLDER')
        for registered in (MODELS.module_dict, DATASETS.module_dict, READ_OUTS):
            for name in registered:  # so that what blocks register is gone afterwards
                patch.setitem(registered, name, registered[name])
        write_weights(Path('weights.pth'), CONFIG)
        before = [{*registered} for registered in (MODELS.module_dict, READ_OUTS)]
        yield folder
        for registered, names in zip((MODELS.module_dict, READ_OUTS), before, strict=True):
            for name in {*registered} - names:
                del registered[name]


def train_with(text: str, folder: Path, place: str) -> None:
    """Train with settings as a config on top of the one that they name, or of the paper's; a suite is only checked."""
    name = re.sub(r'\W+', '_', place)
    if base := re.search(r"^_base_ = '(.*)'", text, re.M):
        found = min(CONFIGS.rglob(base[1].removeprefix('../').removeprefix('./').removeprefix('configs/')))
        text = text.replace(base[0], f"_base_ = '{found}'")
    else:
        # What takes the place of a base's validation needs a base that has one.
        base = 'vitt16_flickr8k_v1' if '_delete_' in text else 'vitb16_laion20m_v1'
        text = f"_base_ = '{CONFIGS}/maskclip/{base}.py'\n{text}"
    (folder / f'{name}.py').write_text(text)
    if 'SuiteLoop' in text or 'suite_' in text:
        cfg = Config.fromfile(folder / f'{name}.py')
        leave_out_without_loader(cfg)
        check_config(cfg)
    else:
        mmmaskclip.cli.train.main([f'{name}.py', '--cfg-options', f'experiment_name={name}'])


def load_backbone(cfg: ConfigDict) -> None:
    """Build a backbone and load a checkpoint of the same into it."""
    shrink(ConfigDict(type='', image_encoder=cfg, text_encoder=None))
    weights = MODELS.build({**cfg, 'init_cfg': None}).state_dict()
    torch.save({f'image_encoder.{name}': value for name, value in weights.items()}, cfg.init_cfg.checkpoint)
    tower = MODELS.build(cfg)
    tower.init_weights()
    assert torch.equal(tower.pos_embed, weights['pos_embed'])


def run_block(text: str, place: str, folder: Path, names: dict) -> None:
    text = re.sub(r"'configs/(?:maskclip|pretrained)/\w+\.py'", repr(CONFIG), text) if '_base_' not in text else text
    text = re.sub(r"'(?:[^'\n]*\.(?:pth|pt|safetensors)|hf://[^'\n]*)'", "'weights.pth'", text)
    text = text.replace("'PATH'", "'tower.pth'" if 'init_cfg' in text else "'photos'")
    text = text.replace('/data/my_pairs/{00000..00099}.tar', 'FOLDER/train-*.tar')
    named = re.match(r'# (?:in )?([\w/]+)\.py\n', text)
    top = ast.parse(text).body
    targets = [target for node in top if isinstance(node, ast.Assign) for target in node.targets]
    assigned = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    if SETTINGS & {*assigned} or (named and named[1].startswith('configs/')):
        train_with(text, folder, place)
    elif named and (ROOT / f'{named[1]}.py').is_file():
        module = importlib.import_module(named[1].replace('/', '.'))
        exec(compile(text, place, 'exec'), dict(vars(module)))
    elif named:
        (folder / f'{named[1]}.py').write_text(text)
        importlib.import_module(named[1])
    else:
        exec(compile(text, place, 'exec'), names)
        if assigned == ['backbone']:
            load_backbone(ConfigDict(names['backbone']))


@pytest.mark.parametrize('page', BLOCKS)
def test_every_python_block_runs_or_says_why_not(page, home):
    names: dict = {'__name__': 'a_page'}
    faults = []
    for place, text, not_run, _ in BLOCKS[page]:
        if not_run:
            continue
        try:
            run_block(text, place, home, names)
        except (Exception, SystemExit) as error:
            faults.append(f'{place}: {type(error).__name__}: {error}')
    assert not faults, 'mend them or begin the block with "# not run: REASON":\n' + '\n'.join(faults)


def test_most_blocks_are_run():
    pieces = [piece for blocks in BLOCKS.values() for piece in blocks]
    assert len(pieces) >= 20
    assert sum(piece.not_run for piece in pieces) <= len(pieces) / 4
