import numpy as np
import torch
from scipy.special import erf

from mmmaskclip.models.heads import PrototypeHead


def test_against_numpy():
    head = PrototypeHead(4, num_prototypes=5, hidden_channels=6, bottleneck_channels=3).double()
    features = torch.randn(2, 7, 4).double()
    x = features.numpy()
    for index, layer in enumerate(head.mlp[::2]):
        x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if index < 2:
            x = x * 0.5 * (1 + erf(x / np.sqrt(2)))
    codewords = head.prototypes.detach().numpy()
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    codewords = codewords / np.linalg.norm(codewords, axis=-1, keepdims=True)
    np.testing.assert_allclose(head(features).detach().numpy(), x @ codewords.T, atol=1e-12)
