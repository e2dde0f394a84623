"""PAMR against NumPy, pixel by pixel."""

import numpy as np
import pytest
import torch

from mmmaskclip.models.open_vocabulary.pamr import pamr


def reference(image, maps, iterations, dilations):
    height, width = image.shape[1:]

    def around(values, row, column):
        return np.stack(
            [
                values[:, min(max(row + dy * step, 0), height - 1), min(max(column + dx * step, 0), width - 1)]
                for step in dilations
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                if dy or dx
            ]
        )

    weights = {}
    for row, column in np.ndindex(height, width):
        near, own = around(image, row, column), image[:, row, column]
        deviation = np.concatenate((own[None], near)).std(0, ddof=1)
        score = -(np.abs(own - near) / (1e-8 + 0.1 * deviation)).mean(1)
        score = np.exp(score - score.max())
        weights[row, column] = score / score.sum()
    for _ in range(iterations):
        maps = np.stack(
            [[weights[row, column] @ around(maps, row, column) for column in range(width)] for row in range(height)]
        ).transpose(2, 0, 1)
    return maps


def test_equals_the_formula():
    generator = torch.Generator().manual_seed(0)
    images, maps = torch.rand(2, 3, 6, 9, generator=generator), torch.rand(2, 4, 6, 9, generator=generator)
    found = pamr(images, maps, 3, (1, 2))
    for one, image, values in zip(found, images, maps, strict=True):
        expected = reference(image.double().numpy(), values.double().numpy(), 3, (1, 2))
        np.testing.assert_allclose(one.numpy(), expected, atol=1e-5)


def test_maps_follow_the_edges_of_the_image():
    image = torch.zeros(1, 3, 16, 16)
    image[..., 8:] = 1
    maps = torch.zeros(1, 2, 16, 16)
    maps[:, 1, :, 10:] = maps[:, 0, :, :10] = 1  # two pixels off
    assert (pamr(image, maps, 10, (1, 2))[0].argmax(0)[:, 2:-2] == (image[0, 0] > 0)[:, 2:-2]).float().mean() > 0.95
    assert pamr(image, maps[..., ::2, ::2]).shape == (1, 2, 16, 16)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match='give at least one of each'):
        pamr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4), dilations=())
