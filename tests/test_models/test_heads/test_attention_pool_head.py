"""Pooling by attention: of an image as SigLIP's formula, of a patch as if it were alone."""

import numpy as np
import torch

from mmmaskclip.contracts import ImageFeatures
from mmmaskclip.models.heads import AttentionPoolProjectionHead


def make_head():
    torch.manual_seed(0)
    head = AttentionPoolProjectionHead(8, 5, num_heads=2)
    head.init_weights()
    torch.nn.init.normal_(head.attention.in_proj_bias)
    return head


@torch.no_grad()
def test_equals_the_formula():
    head, patches = make_head(), torch.randn(2, 6, 8)
    found = head(ImageFeatures(torch.zeros(2, 8), patches)).numpy()
    weights = {name: value.double().numpy() for name, value in head.state_dict().items()}
    q, k, v = (
        part @ weight.T + bias
        for part, weight, bias in zip(
            (weights['query'][0], patches.numpy(), patches.numpy()),
            np.split(weights['attention.in_proj_weight'], 3),
            np.split(weights['attention.in_proj_bias'], 3),
            strict=True,
        )
    )
    for index in range(2):
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            scores = np.exp(q[:, part] @ k[index][:, part].T / 2)
            heads.append(scores / scores.sum() @ v[index][:, part])
        x = np.concatenate(heads, -1)[0] @ weights['attention.out_proj.weight'].T + weights['attention.out_proj.bias']
        normed = (x - x.mean()) / np.sqrt(x.var() + 1e-6) * weights['norm.weight'] + weights['norm.bias']
        hidden = normed @ weights['mlp.0.weight'].T + weights['mlp.0.bias']
        hidden = hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3))) / 2
        x = x + hidden @ weights['mlp.2.weight'].T + weights['mlp.2.bias']
        np.testing.assert_allclose(found[index], x @ weights['projection.weight'].T, atol=1e-5)


@torch.no_grad()
def test_a_patch_is_pooled_as_if_it_were_alone():
    head, patches = make_head(), torch.randn(2, 6, 8)
    dense = head.dense(patches)
    for index in range(6):
        alone = head(ImageFeatures(torch.zeros(2, 8), patches[:, index : index + 1]))
        torch.testing.assert_close(dense[:, index], alone)
