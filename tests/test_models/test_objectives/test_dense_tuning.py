"""Objectives that make a released CLIP dense: regions as crops, correlations, denoised targets, the global kept."""

import numpy as np
import pytest
import tiny_models
import torch
from torch.nn import functional as F
from torchvision.ops import roi_align

from mmmaskclip.contracts import ImageFeatures
from mmmaskclip.models.objectives import DenoisedDistillation, ReadOutDistillation, RegionCropDistillation
from mmmaskclip.models.objectives.denoised_distillation import denoised_maps
from mmmaskclip.models.objectives.patch_correlation import correlations
from mmmaskclip.models.objectives.views import BatchViews
from mmmaskclip.registry import MODELS


def _views(objective, drift=0.0, size=4, **kwargs):
    """Views of a batch whose teacher is the student, or the student before its parameters drifted."""
    model = MODELS.build(tiny_models.model(dict(tuned=dict(type=objective, **kwargs))))
    model.init_weights()
    with torch.no_grad():
        for parameter in (*model.image_encoder.parameters(), *model.image_projection.parameters()):
            parameter += drift * torch.randn_like(parameter)
    batch = model.data_preprocessor(tiny_models.random_batch(size), training=True)
    return model, BatchViews(model, batch)


def test_the_global_embedding_is_held():
    model, views = _views('PreserveGlobal')
    assert model.objectives['tuned'](views)['loss'].item() == pytest.approx(0, abs=1e-6)
    model, views = _views('PreserveGlobal', drift=0.1)
    student = views.projected_image().detach().double().numpy()
    start = views.teacher_projected_image().double().numpy()
    cosines = (student * start).sum(1) / np.linalg.norm(student, axis=1) / np.linalg.norm(start, axis=1)
    loss = model.objectives['tuned'](views)['loss']
    assert loss.item() == pytest.approx(np.mean(1 - cosines), rel=1e-5)
    assert loss.item() > 1e-3
    loss.backward()
    assert model.image_encoder.layers[0].attn.qkv.weight.grad.abs().sum() > 0


def test_a_teacher_with_momentum_one_stays():
    model = MODELS.build(tiny_models.model(dict(tuned=dict(type='PreserveGlobal'))) | dict(teacher_momentum=1.0))
    model.init_weights()
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    with torch.no_grad():
        for parameter in model.image_encoder.parameters():
            parameter += 1
    model.after_optimizer_step()
    assert all(torch.equal(value, before[name]) for name, value in model.teacher.state_dict().items())


def test_correlations_equal_numpy():
    model, views = _views('PatchCorrelation', drift=0.1)
    loss = model.objectives['tuned'](views)['loss'].item()
    grams = []
    for patches in (views.image_features().patches, views.teacher_features().patches):
        patches = patches.detach().double().numpy()
        patches = patches / np.linalg.norm(patches, axis=2, keepdims=True)
        grams.append(np.einsum('bnc,bmc->bnm', patches, patches))
    assert loss == pytest.approx(np.mean((grams[0] - grams[1]) ** 2), rel=1e-4)
    assert loss > 1e-5
    with torch.autocast('cpu', torch.bfloat16):
        assert correlations(torch.randn(1, 3, 4).bfloat16()).dtype == torch.float32


def test_another_tower_gives_correlations_on_the_students_grid(tmp_path):
    tiny_models.write_weights(tmp_path)
    frozen = dict(encoder=tiny_models.ENCODER, checkpoint=str(tmp_path / 'tower.pth'))
    model, views = _views('PatchCorrelation', frozen=frozen, teacher_image_size=64)
    assert not hasattr(model, 'teacher')
    loss = model.objectives['tuned'](views)['loss']
    tower = MODELS.build(tiny_models.ENCODER)
    tower.load_state_dict(torch.load(tmp_path / 'tower.pth', weights_only=True), strict=False)
    assert loss.item() > 1e-5
    # An eight by eight grid comes down to four by four.
    assert model.objectives['tuned']._teacher(views).shape == views.image_features().patches.shape


def test_regions_tile_the_image():
    objective = RegionCropDistillation(num_regions=200, max_grid=3)
    boxes = objective._regions(torch.rand(5, 202), torch.Size((32, 48))).view(5, 200, 5)
    for number, regions in enumerate(boxes):
        assert (regions[:, 0] == number).all()
        cells = np.unique(regions[:, 1:].numpy().round(3), axis=0)
        # With 200 draws every one of at most nine cells comes up, and together they are the image.
        areas = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])
        assert areas.sum() == pytest.approx(32 * 48, rel=1e-4)
        assert cells.min() >= 0
        assert cells[:, 2].max() == pytest.approx(48, rel=1e-4)
        assert cells[:, 3].max() == pytest.approx(32, rel=1e-4)


def test_a_region_is_compared_with_its_crop():
    model, views = _views('RegionCropDistillation', drift=0.1, num_regions=2, max_grid=2)
    objective = model.objectives['tuned']
    loss = objective(views)['loss']
    boxes = objective._regions(views.noise(4, 2), views.images().shape[-2:])
    expected = []
    for box in boxes.tolist():
        image = views.images()[int(box[0])]
        left, top, right, bottom = (round(side) for side in box[1:])  # grids of 1 or 2 cut at whole pixels
        crop = F.interpolate(image[None, :, top:bottom, left:right], (32, 32), mode='bilinear', align_corners=False)
        aligned = roi_align(views.images(), torch.tensor([box]), (32, 32), aligned=True)
        # RoIAlign reads across the border of the crop, where interpolation repeats the last pixel.
        torch.testing.assert_close(aligned[..., 1:-1, 1:-1], crop[..., 1:-1, 1:-1], atol=1e-4, rtol=0)
        with torch.no_grad():
            target = model.teacher_projection(model.teacher.module.features(aligned))[0]
            patches = model.image_projection.dense(model.image_encoder.features(image[None]).patches)[0]
        rows, columns = slice(top // 8, bottom // 8), slice(left // 8, right // 8)
        region = patches.view(4, 4, -1)[rows, columns].flatten(0, 1).mean(0)
        expected.append(1 - float(F.cosine_similarity(region, target, dim=0)))
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)
    loss.backward()
    assert model.image_projection.projection.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('read_out', ['value', dict(name='csa')])
def test_patches_are_compared_with_a_read_out_of_the_teacher(read_out):
    model, views = _views('ReadOutDistillation', drift=0.1, read_out=read_out)
    loss = model.objectives['tuned'](views)['loss']
    with torch.no_grad():
        target, _ = model.teacher.module.dense(views.images(), read_out)
        target = (target @ model.teacher_projection.module.projection.weight.t()).double().numpy()
        patches = model.image_encoder.features(views.images()).patches
        patches = (patches @ model.image_projection.projection.weight.t()).double().numpy()
    cosines = (patches * target).sum(2) / np.linalg.norm(patches, axis=2) / np.linalg.norm(target, axis=2)
    assert loss.item() == pytest.approx(np.mean(1 - cosines), rel=1e-4)
    assert loss.item() > 1e-2
    loss.backward()
    assert model.image_encoder.layers[0].attn.qkv.weight.grad.abs().sum() > 0
    assert model.teacher.module.layers[0].attn.qkv.weight.grad is None


def test_a_plain_read_out_of_the_same_tower_is_no_loss():
    model, views = _views('ReadOutDistillation', read_out='patch')
    assert model.objectives['tuned'](views)['loss'].item() == pytest.approx(0, abs=1e-6)


class _Averages(torch.nn.Module):
    """A tower whose patch features are the mean colours, plus an artifact that stays where it is."""

    def __init__(self, artifact):
        super().__init__()
        self.artifact = artifact

    def embed(self, images):
        means = F.avg_pool2d(images, 8)
        return means.flatten(2).transpose(1, 2), means.shape[-2:]

    def encode(self, patches, visible=None):
        patches = patches.clone()
        patches[:, 9] += self.artifact
        return ImageFeatures(patches.mean(dim=1), patches)


def test_moved_copies_average_an_artifact_away():
    # A ramp of colour: bilinear reading is exact on it, so that without an artifact all copies agree inside.
    ramp = torch.linspace(0, 1, 64).expand(64, 64) + torch.linspace(0, 2, 64)[:, None]
    images = ramp.expand(2, 3, 64, 64).contiguous()
    noise = torch.rand(2, 16, 3)
    clean, _ = denoised_maps(_Averages(0.0), images, noise, 0.15)
    plain = F.avg_pool2d(images, 8)
    torch.testing.assert_close(clean, plain, atol=2e-3, rtol=0)
    noisy, _ = denoised_maps(_Averages(5.0), images, noise, 0.15)
    # The patch keeps a part of the artifact; before it had all of it.
    assert (noisy - plain)[:, :, 1, 1].abs().max() < 2.5


def test_new_registers_learn_the_denoised_patches(tmp_path):
    tiny_models.write_weights(tmp_path)
    frozen = dict(encoder=tiny_models.ENCODER, checkpoint=str(tmp_path / 'tower.pth'))
    cfg = tiny_models.model(dict(registers=dict(type='DenoisedDistillation', frozen=frozen, num_copies=3)))
    cfg['image_encoder']['num_registers'] = 2
    model = MODELS.build(cfg)
    model.init_weights()
    losses = model(mode='loss', **model.data_preprocessor(tiny_models.random_batch(3)))
    assert list(losses) == ['registers_patch_loss', 'registers_cls_loss']
    sum(losses.values()).backward()
    assert model.image_encoder.registers.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.objectives['registers'].frozen.parameters())


@pytest.mark.parametrize(
    ('objective', 'wrong'),
    [
        (ReadOutDistillation, dict(read_out='values')),
        (RegionCropDistillation, dict(num_regions=0)),
        (RegionCropDistillation, dict(crop_size=-1)),
        (DenoisedDistillation, dict(frozen={}, num_copies=0)),
        (DenoisedDistillation, dict(frozen={}, max_shift=0.6)),
    ],
)
def test_wrong_numbers_are_named(objective, wrong):
    name, value = list(wrong.items())[-1]
    with pytest.raises(ValueError, match=f'{name}={value!r}'):
        objective(**wrong)


def test_a_model_without_captions_keeps_its_temperature():
    cfg = tiny_models.model(dict(contrast=dict(type='FixedTemperature'), preserve=dict(type='PreserveGlobal')))
    model = MODELS.build(cfg)
    model.init_weights()
    losses = model(mode='loss', **model.data_preprocessor(tiny_models.random_batch(2)))
    assert list(losses) == ['preserve_loss']
    image, text = F.normalize(torch.randn(2, 3), dim=1), F.normalize(torch.randn(4, 3), dim=1)
    torch.testing.assert_close(model.logits(image, text), image @ text.T / 0.07)
    assert not model.objectives['contrast'].logit_scale.requires_grad
