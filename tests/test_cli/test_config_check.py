from pathlib import Path

import pytest
from mmengine.config import Config

from mmmaskclip.cli.config_check import ConfigMistake, check_config, check_paths

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts)
PRETRAINING = 'configs/maskclip/vitt16_flickr8k.py'
DETECTION = 'configs/mask_rcnn/vitt16_coco_tiny.py'


@pytest.mark.parametrize('folder', sorted({name.split('/')[1] for name in CONFIGS}))
def test_accepts_every_config(folder):
    for name in CONFIGS:
        if name.split('/')[1] == folder:
            check_config(Config.fromfile(ROOT / name))


@pytest.mark.parametrize(
    ('config', 'option', 'value', 'message'),
    [
        (PRETRAINING, 'model.image_encodr', {}, 'model.image_encodr: ImageTextPretrainer has no .* mean image_encoder'),
        (PRETRAINING, 'model.image_encoder.drop_path', 0.1, 'CLIPVisionTransformer has .* mean .*drop_path_rate'),
        (PRETRAINING, 'model.objectives.distillation.type', 'MaskdSelfDistillation', 'mean MaskedSelfDistillation'),
        (PRETRAINING, 'model.objectives.distillation.weight', 'one', "takes float or dict, found str 'one'"),
        (PRETRAINING, 'train_dataloader.batchsize', 8, 'a data loader has no such argument. Did you mean batch_size'),
        (PRETRAINING, 'train_dataloader.dataset.viwes', {}, 'Did you mean views'),
        (PRETRAINING, 'default_hooks.logger.intervall', 5, 'LoggerHook has no such argument. Did you mean interval'),
        (PRETRAINING, 'train_cfg.max_epochs', 'ten', "train_cfg.max_epochs: .* takes int.*, found str 'ten'"),
        (PRETRAINING, 'optim_wrapper.optimizer.type', 'AdmW', 'Did you mean AdamW'),
        (PRETRAINING, 'optim_wrapper.optimizer.lr', 'high', "found str 'high'"),
        (PRETRAINING, 'custom_hoks', [], 'custom_hoks: no Runner reads this key. Did you mean custom_hooks'),
        (DETECTION, 'model.roi_head.bbox_head.num_clases', 3, 'Did you mean num_classes'),
        (DETECTION, 'model.neck.1.type', 'mmdet.FNP', 'Did you mean .*mmdet.FPN'),
        (DETECTION, 'default_hooks.checkpoint.intervall', 2, 'Did you mean interval'),
    ],
)
def test_mistakes_are_named_with_the_nearest(config, option, value, message):
    cfg = Config.fromfile(ROOT / config)
    cfg.merge_from_dict({option: value})
    with pytest.raises(ConfigMistake, match=message) as error:
        check_config(cfg)
    assert option.rpartition('.')[0] in str(error.value)


def test_all_mistakes_are_told_at_once():
    cfg = Config.fromfile(ROOT / PRETRAINING)
    cfg.merge_from_dict({'model.tex_encoder': {}, 'train_cfg.max_epoch': 3})
    with pytest.raises(ConfigMistake, match=r'(?s)text_encoder.*max_epochs'):
        check_config(cfg)


def test_paths_name_the_nearest(tmp_path):
    (tmp_path / 'shards').mkdir()
    (tmp_path / 'weights.pth').touch()
    dataset = dict(urls=f'{tmp_path}/shrads', data_root=str(tmp_path))
    cfg = Config(dict(load_from=f'{tmp_path}/wieghts.pth', train_dataloader=dict(dataset=dataset)))
    with pytest.raises(ConfigMistake, match=r'(?s)load_from=.*mean .*/weights.pth.*urls=.*mean .*/shards') as error:
        check_paths(cfg)
    assert 'data_root' not in str(error.value)
    remote = ['pipe:cat x', 'https://a/b.tar', f'{tmp_path}/{{0..3}}.tar']
    check_paths(Config(dict(train_dataloader=dict(dataset=dict(urls=remote)))))
