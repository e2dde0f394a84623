"""``tools/test.py --show-dir``: mmseg's is shown in test_upernet.py on real images."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmmaskclip.cli.show_dir import draw_predictions
from mmmaskclip.cli.test import main

CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=2),
    backbone=dict(type='mmmaskclip.CLIPVisionTransformer', arch='ViT-Ti/16', img_size=32, out_type='featmap'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=192),
)
test_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='ROOT', pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]),
)
test_evaluator = dict(type='Accuracy', topk=(1,))
test_cfg = dict()
"""  # noqa: E501


def test_classifiers_predictions_are_drawn_on_every_image(tmp_path, monkeypatch):
    for label in ('cat', 'dog'):
        for index in range(2):
            (tmp_path / 'data' / label).mkdir(parents=True, exist_ok=True)
            pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(tmp_path / 'data' / label / f'{label}{index}.png')
    (tmp_path / 'c.py').write_text(CLASSIFIER.replace('ROOT', str(tmp_path / 'data')))
    monkeypatch.chdir(tmp_path)
    arguments = ['--work-dir', str(tmp_path / 'run'), '--show-dir', 'shown/here']
    main([str(tmp_path / 'c.py'), 'none', *arguments])
    names = [path.name for path in sorted(Path('shown/here').iterdir())]
    assert [name.split('.')[0] for name in names] == ['cat0', 'cat1', 'dog0', 'dog1']


def test_config_keeps_its_hook_and_visualizer(tmp_path):
    cfg = Config(
        dict(
            default_scope='mmdet',
            default_hooks=dict(
                logger=dict(type='LoggerHook'), visualization=dict(type='DetVisualizationHook', score_thr=0.1)
            ),
            visualizer=dict(type='DetLocalVisualizer', name='mine'),
        )
    )
    draw_predictions(cfg, str(tmp_path / 'shown'))
    assert cfg.default_hooks.logger.type == 'LoggerHook'
    assert cfg.default_hooks.visualization == dict(
        type='mmdet.DetVisualizationHook', draw=True, score_thr=0.1, test_out_dir=str(tmp_path / 'shown')
    )
    assert cfg.visualizer == dict(type='DetLocalVisualizer', name='mine')


def test_mmengines_visualizer_is_replaced_by_one_that_draws():
    cfg = Config(dict(default_scope='mmseg', visualizer=dict(type='Visualizer', vis_backends=[dict(type='X')])))
    draw_predictions(cfg, 'shown')
    assert cfg.visualizer.type == 'mmseg.SegLocalVisualizer'
    assert cfg.visualizer.save_dir == str(Path('shown').resolve())
    assert [backend.type for backend in cfg.visualizer.vis_backends] == ['LocalVisBackend']


OTHER = """
default_scope = {scope}
model = dict(type='mmmaskclip.ImageProjectionHead', in_channels=2, embed_dims=2)
test_dataloader = dict(dataset=dict(type='mmmaskclip.ImageTextPairs', ann_file='{file}', views=dict()))
test_evaluator = dict(type='mmmaskclip.RetrievalRecall')
test_cfg = dict()
"""


@pytest.mark.parametrize('scope', ["'mmmaskclip'", 'None'])
def test_other_configs_are_refused_with_the_remedy(tmp_path, scope):
    (tmp_path / 'c.py').write_text(OTHER.format(scope=scope, file=__file__))
    with pytest.raises(ValueError, match=rf'default_scope={scope}\. tools/visualize_segmentation\.py draws'):
        main([str(tmp_path / 'c.py'), 'none', '--work-dir', str(tmp_path), '--show-dir', str(tmp_path)])
