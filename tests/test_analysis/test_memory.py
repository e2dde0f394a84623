"""The memory that is counted from one and two blocks is that of the whole model."""

import pytest
import tiny_models
import torch
from mmengine.config import Config
from paths import load_module

from mmmaskclip.analysis.memory import GB, StepMemory, count_memory, saved_bytes
from mmmaskclip.analysis.random_batch import random_batch
from mmmaskclip.engine.distributed.activation_checkpointing import turn_on_activation_checkpointing
from mmmaskclip.registry import MODELS


def config(**changes):
    model = tiny_models.model()
    model['image_encoder']['arch'].update(num_layers=4)
    model['text_encoder'].update(num_layers=3, vocab_size=49408)
    view = dict(image=[dict(type='torchvision/CenterCrop', size=32)])
    return Config(dict(model={**model, **changes}, train_dataloader=dict(dataset=dict(views=view))))


@pytest.mark.parametrize('bf16', [False, True])
@pytest.mark.parametrize('lora', [None, dict(image_encoder=dict(rank=2), text_encoder=dict(rank=2))])
def test_count_equals_what_autograd_saves(bf16, lora):
    cfg = config(lora=lora)
    found = count_memory(cfg, caption_length=9, bf16=bf16)
    model = MODELS.build(cfg.model).train()
    measured = saved_bytes(model, random_batch(cfg, 6, 9), bf16)
    # The logits of all pairs grow with the square of the batch: 6 x 6 floats, some times.
    assert found.constant + 6 * found.sample == pytest.approx(measured, rel=0.01)
    assert found.parameters == sum(4 * p.numel() for p in (*model.parameters(), *model.buffers()))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (found.gradients, found.optimizer) == (4 * trained, 8 * trained)
    assert found.sample_checkpointed < found.sample


def test_checkpointed_blocks_keep_their_input_in_the_precision_of_the_residual_stream():
    excess = []
    for residual_dtype in (None, 'bf16'):
        cfg = config()
        for tower in ('image_encoder', 'text_encoder'):
            cfg.model[tower].residual_dtype = residual_dtype
        model = MODELS.build(cfg.model).train()
        turn_on_activation_checkpointing(model, ['image_encoder.layers', 'text_encoder.layers'])
        few, many = (saved_bytes(model, random_batch(cfg, size, 9), bf16=True) for size in (2, 4))
        excess.append(count_memory(cfg, 9).sample_checkpointed - (many - few) / 2)
    # What is counted besides is the one block that the backward pass computes again.
    assert 0 < excess[1] <= excess[0]


def test_a_locked_tower_saves_nothing():
    model = tiny_models.model()['image_encoder']
    whole = count_memory(config(), 9)
    model['arch'].update(num_layers=4)
    locked = count_memory(config(image_encoder={**model, 'frozen_stages': 4}), 9)
    assert locked.sample < whole.sample / 2


def test_largest_batch_leaves_room():
    found = StepMemory(GB, GB // 2, GB, GB // 2, 10**8, 10**7)
    assert found.total(10) == 4 * GB
    # 0.9 x 8 GB, less 1 GB, 3 GB, and another gradient.
    assert (found.largest_batch(8 * GB), found.largest_batch(8 * GB, checkpointed=True)) == (27, 270)
    assert found.largest_batch(2 * GB) == 0


def test_tool_prints_a_row_for_each_model(tmp_path, capsys):
    config().dump(tmp_path / 'a.py')
    tool = load_module('tools/analysis_tools/count_memory.py')
    tool.main([str(tmp_path / 'a.py'), '--models', str(tmp_path / 'a.py'), '--memory', '8', '--caption-length', '9'])
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.startswith('| config | model | fixed, GB |')
    assert row.startswith('| a | a | 0.0')
    assert len(row.split('|')) == len(head.split('|')) == 8


def test_saved_bytes_of_one_linear_layer():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(8, 4)

        def data_preprocessor(self, batch, training):
            return batch

        def forward(self, mode, image):
            return {'loss': self.layer(image * 2).square().sum()}

    # The layer's input, and its output for the square.
    assert saved_bytes(Model(), {'image': torch.ones(3, 8)}, bf16=False) == 4 * 3 * (8 + 4)
