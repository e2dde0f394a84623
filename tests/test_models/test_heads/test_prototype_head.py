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
    np.testing.assert_allclose(head(features).whole().detach().numpy(), x @ codewords.T, atol=1e-6)


def test_similarities_are_float32_under_autocast():
    head = PrototypeHead(4, num_prototypes=5, hidden_channels=6, bottleneck_channels=3)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert head(torch.randn(2, 4)).whole().dtype == torch.float32


def test_activations_keep_their_scale_at_the_start():
    head = PrototypeHead(64, num_prototypes=256, hidden_channels=128, bottleneck_channels=32)
    head.init_weights()
    assert 0.3 < head.mlp(torch.randn(100, 64)).std() < 3
    torch.testing.assert_close(head.prototypes.norm(dim=1).mean(), torch.tensor(1.0), rtol=0.05, atol=0)
