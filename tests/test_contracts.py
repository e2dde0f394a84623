"""Every part of the package keeps the contract that its callers rely on; parts of other packages need nothing more."""

import ast
from collections import Counter

import pytest
import torch
from paths import ROOT

from mmmaskclip import contracts
from mmmaskclip.contracts import FollowsRun, ImageFeatures, Objective, PretrainModel
from mmmaskclip.models import objectives
from mmmaskclip.models.objectives.views import BatchViews
from mmmaskclip.registry import MODELS

#: Where an attribute may be looked for: objects of other packages for which no contract exists, and why.
LOOKED_FOR = {
    'mmmaskclip/analysis/first_step.py': (1, 'only some image towers of other packages are made for one size'),
    'mmmaskclip/analysis/memory.py': (1, 'only towers of ours have a residual_dtype'),
    'mmmaskclip/analysis/evaluation_record.py': (1, 'only data sets of OpenMMLab have METAINFO'),
    'mmmaskclip/checkpoints/export/graphs.py': (1, 'only some image towers attend to neighbours'),
    'mmmaskclip/checkpoints/export/parts.py': (5, 'image towers of mmpretrain lack registers and a resize'),
    'mmmaskclip/checkpoints/export/open_clip.py': (1, 'heads of towers that have no projection'),
    'mmmaskclip/checkpoints/export/refusals.py': (
        10,
        'towers of other packages lack the parts that are refused by name',
    ),
    'mmmaskclip/checkpoints/export/trunks.py': (
        4,
        "timm's ViTs differ in the parts that they have, and heads in theirs",
    ),
    'mmmaskclip/checkpoints/export/words.py': (1, "only torch's GELU has an approximation"),
    'mmmaskclip/checkpoints/files.py': (1, 'torch hangs versions of modules on a state dict, an OrderedDict'),
    'mmmaskclip/checkpoints/weights.py': (2, "mmpretrain's way to resize positions; a tower of any package"),
    'mmmaskclip/datasets/evaluation/labelled_images.py': (3, "torchvision's datasets name labels in many ways"),
    'mmmaskclip/datasets/transforms/decode.py': (
        3,
        "Pillow's plugins count frames or not; open files have a name or not",
    ),
    'mmmaskclip/checkpoints/positions.py': (1, 'text towers of other packages have no such switch'),
    'mmmaskclip/engine/optimizers/layer_decay_constructor.py': (
        1,
        'only some backbones of mmpretrain know their depths',
    ),
    'mmmaskclip/engine/resume_check.py': (1, 'batch samplers of mmdet share no class with those of torch'),
    'mmmaskclip/engine/step/model_step_hook.py': (1, 'the flag is that of our runner, and a runner may be another'),
    'mmmaskclip/engine/step/optim_wrapper.py': (1, "torch's flag of optimizers that skip a step on the device"),
    'mmmaskclip/models/backbones/lora.py': (1, 'only towers of mmpretrain have stages to freeze'),
    'mmmaskclip/models/backbones/last_block.py': (2, 'a block of timm comes in ours, and FSDP shards the inner one'),
    'mmmaskclip/models/backbones/timm_tower.py': (11, "timm's ViTs differ in the parts that they have"),
    'mmmaskclip/models/backbones/whole_image_tower.py': (1, 'names what a tower lacks of the contract'),
    'mmmaskclip/models/objectives/masked_language_modeling.py': (
        1,
        'only text towers of a choice have the attribute pool',
    ),
    'mmmaskclip/models/from_pretrained.py': (1, 'models of other packages have no image_encoder, which is said'),
    'mmmaskclip/startup/machine.py': (1, 'macOS has no affinity'),
    'mmmaskclip/utils/progress.py': (2, 'IPython may be missing, and only its notebooks have a kernel'),
}
SPEC = [name for name in vars(Objective) if not name.startswith('_')] + list(Objective.__annotations__)


@pytest.mark.parametrize('name', [name for name in objectives.__all__ if 'Objective' not in name])
def test_objectives(name):
    objective = getattr(objectives, name)
    assert issubclass(objective, FollowsRun)
    # A weight is made in the constructor, from a number or a ramp.
    assert not [part for part in SPEC if part != 'weight' and not hasattr(objective, part)]


def test_the_pretrainer_is_a_model_whose_losses_are_weighted_once(tiny_model_cfg, distillation_cfg, random_batch):
    plain = MODELS.build(tiny_model_cfg(dict(distillation=distillation_cfg('cvpr')))).eval()
    weighted = MODELS.build(tiny_model_cfg(dict(distillation=distillation_cfg('cvpr', weight=0.25)))).eval()
    weighted.load_state_dict(plain.state_dict())
    assert isinstance(plain, PretrainModel)
    batch = plain.data_preprocessor(random_batch(2))
    (loss,), (quarter,) = (model(mode='loss', **batch).values() for model in (plain, weighted))
    torch.testing.assert_close(quarter, loss / 4)
    (raw,) = weighted.objectives['distillation'](BatchViews(weighted, batch)).values()
    torch.testing.assert_close(raw, loss)


def test_a_loss_of_torch_can_be_dropped_in(tiny_model_cfg, distillation_cfg, random_batch):
    cfg = distillation_cfg('v1') | dict(loss=dict(type='torch.nn.SmoothL1Loss', beta=2.0))
    ours, theirs = (MODELS.build(tiny_model_cfg(dict(d=one))) for one in (distillation_cfg('v1'), cfg))
    theirs.load_state_dict(ours.state_dict())
    batch = ours.data_preprocessor(random_batch(2))
    torch.testing.assert_close(theirs(mode='loss', **batch), ours(mode='loss', **batch))
    theirs.set_progress(0.5)
    theirs.after_optimizer_step()


def test_every_contract_is_imported_from_the_package():
    pages = [ROOT / 'mmmaskclip/contracts' / f'{name}.py' for name in ('training', 'data', 'evaluation', 'values')]
    nodes = [node for page in pages for node in ast.parse(page.read_text()).body]
    public = {node.name for node in nodes if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    assert {*contracts.__all__} == {*public, 'POOLS'}
    rows = (ROOT / 'docs/architecture.md').read_text()
    assert not [name for name in public if name[0].isupper() and f'`{name}`' not in rows]


def test_pooling():
    features = ImageFeatures(torch.ones(2, 3), torch.arange(12.0).view(2, 2, 3))
    assert features.pool('cls') is features.cls
    torch.testing.assert_close(features.pool('mean'), features.patches.mean(1))
    with pytest.raises(ValueError, match="pool='max': choose 'mean' or 'cls'"):
        features.pool('max')


def _looks_for_attribute(node):
    call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return call and (node.func.id == 'hasattr' or (node.func.id == 'getattr' and len(node.args) == 3))


def test_behaviour_is_no_guess_by_the_name_of_an_attribute():
    files = [path for folder in ('mmmaskclip', 'tools', 'demo') for path in (ROOT / folder).rglob('*.py')]
    found = Counter(
        str(path.relative_to(ROOT))
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if _looks_for_attribute(node)
    )
    # A contract of mmmaskclip.contracts, or isinstance; a row above only for what other packages give.
    assert found == {path: count for path, (count, _) in LOOKED_FOR.items()}
