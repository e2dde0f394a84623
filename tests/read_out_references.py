"""Read-outs in NumPy, written from the papers' formulas, on the weights of a tower."""

import numpy as np
import torch
from scipy.special import erf
from torch import nn

from mmmaskclip.registry import MODELS

TOWER = dict(
    type='CLIPVisionTransformer',
    arch=dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64),
    patch_size=8,
    img_size=32,
)
TOWERS = {
    'plain': {},
    'registers': dict(num_registers=2),
    'openai': dict(pre_norm=True, quick_gelu=True, norm_cfg=dict(type='LN', eps=1e-5)),
    'layer scale': dict(layer_cfgs=dict(layer_scale_init_value=0.5)),
}


def make_tower(**changes):
    torch.manual_seed(0)
    tower = MODELS.build({**TOWER, **changes})
    tower.init_weights()
    for name, parameter in tower.named_parameters():
        # Away from 0 and 1, where a missing bias or norm would not show.
        if 'bias' in name or 'ln' in name:
            nn.init.normal_(parameter, std=0.5)
    return tower.eval()


class Reference:
    """The tower in NumPy, from its weights and its input to the blocks."""

    final = 'ln1'

    def __init__(self, tower):
        self.tower = tower
        self.weights = {name: value.detach().double().numpy() for name, value in tower.state_dict().items()}
        self.heads = tower.layers[0].attn.num_heads
        self.extra = 1 + tower.num_registers

    def norm(self, x, name):
        eps = dict(self.tower.named_modules())[name].eps
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
        return x * self.weights[f'{name}.weight'] + self.weights[f'{name}.bias']

    def linear(self, x, name):
        return x @ self.weights[f'{name}.weight'].T + self.weights[f'{name}.bias']

    def qkv(self, x, layer, patches_only=False):
        """Queries, keys, values of a block: (3, heads, tokens, channels)."""
        parts = self.linear(self.norm(x, f'layers.{layer}.ln1'), f'layers.{layer}.attn.qkv')
        return parts.reshape(len(x), 3, self.heads, -1).transpose(1, 2, 0, 3)

    def project(self, attended, layer):
        """Heads (heads, tokens, channels) to what the block adds."""
        joined = attended.transpose(1, 0, 2).reshape(attended.shape[1], -1)
        return self.linear(joined, f'layers.{layer}.attn.proj') * self.weights.get(
            f'layers.{layer}.attn.gamma1.weight', 1.0
        )

    def feed_forward(self, x, layer):
        hidden = self.linear(self.norm(x, f'layers.{layer}.ln2'), f'layers.{layer}.ffn.layers.0.0')
        if 'QuickGELU' in type(self.tower.layers[layer].ffn.layers[0][1]).__name__:
            hidden = hidden / (1 + np.exp(-1.702 * hidden))
        else:
            hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        out = self.linear(hidden, f'layers.{layer}.ffn.layers.1')
        return out * self.weights.get(f'layers.{layer}.ffn.gamma2.weight', 1.0)

    def block(self, x, layer, attention=None):
        """One block; ``attention(q, k)`` gives the weights (heads, tokens, tokens)."""
        q, k, v = self.qkv(x, layer)
        weights = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])) if attention is None else attention(q, k)
        x = x + self.project(weights @ v, layer)
        return x + self.feed_forward(x, layer)

    def until(self, x, stop):
        for layer in range(stop):
            x = self.block(x, layer)
        return x

    def finish(self, x):
        """The final norm of tokens, without those that are no patch."""
        return self.norm(x, self.final)[self.extra :]


class TimmReference(Reference):
    """A tower of timm in NumPy: SwiGLU, norms inside of attention and feed-forward network, rotary positions.

    The table of sines and cosines is timm's own; how it turns queries and keys is written here.
    """

    final = 'norm'

    def __init__(self, tower, grid):
        self.tower = tower.trunk
        self.weights = {name: value.detach().double().numpy() for name, value in self.tower.state_dict().items()}
        self.heads = self.tower.blocks[0].attn.num_heads
        self.extra = self.tower.num_prefix_tokens
        rotation = tower._rotation(grid)
        self.rotation = None if rotation is None else rotation.double().numpy()
        self.after = 'Post' in type(self.tower.blocks[0]).__name__

    def rotate(self, x, extra):
        """Neighbouring channels are the two sides of a plane, which position turns (RoFormer, equation 34)."""
        if self.rotation is None:
            return x
        sines, cosines = np.split(self.rotation, 2, axis=-1)
        turned = x.copy()
        part = x[:, extra:]
        across = np.stack((-part[..., 1::2], part[..., ::2]), axis=-1).reshape(part.shape)
        turned[:, extra:] = part * cosines + across * sines
        return turned

    def qkv(self, x, layer, patches_only=False):
        extra = 0 if patches_only else self.extra
        name = f'blocks.{layer}.attn'
        normed = x if self.after else self.norm(x, f'blocks.{layer}.norm1')
        if f'{name}.q_proj.weight' in self.weights:
            parts = [normed @ self.weights[f'{name}.{part}_proj.weight'].T for part in 'qkv']
            biases = [self.weights.get(f'{name}.{part}_proj.bias', 0.0) for part in 'qkv']
        else:
            parts = np.split(normed @ self.weights[f'{name}.qkv.weight'].T, 3, axis=-1)
            if f'{name}.qkv.bias' in self.weights:
                biases = np.split(self.weights[f'{name}.qkv.bias'], 3)
            else:
                biases = [self.weights.get(f'{name}.{part}_bias', 0.0) for part in 'qkv']
        parts = [part + bias for part, bias in zip(parts, biases, strict=True)]
        q, k, v = (part.reshape(len(x), self.heads, -1).transpose(1, 0, 2) for part in parts)
        return np.stack((self.rotate(q, extra), self.rotate(k, extra), v))

    def scale(self, added, layer, half):
        return added * self.weights.get(f'blocks.{layer}.ls{half}.gamma', 1.0)

    def project(self, attended, layer):
        joined = attended.transpose(1, 0, 2).reshape(attended.shape[1], -1)
        if f'blocks.{layer}.attn.norm.weight' in self.weights:
            joined = self.norm(joined, f'blocks.{layer}.attn.norm')
        added = self.scale(self.linear(joined, f'blocks.{layer}.attn.proj'), layer, 1)
        return self.norm(added, f'blocks.{layer}.norm1') if self.after else added

    def feed_forward(self, x, layer):
        name = f'blocks.{layer}.mlp'
        normed = x if self.after else self.norm(x, f'blocks.{layer}.norm2')
        if f'{name}.fc1_g.weight' in self.weights:
            gate = self.linear(normed, f'{name}.fc1_g')
            hidden = gate / (1 + np.exp(-gate)) * self.linear(normed, f'{name}.fc1_x')
            if f'{name}.norm.weight' in self.weights:
                hidden = self.norm(hidden, f'{name}.norm')
        else:
            hidden = self.linear(normed, f'{name}.fc1')
            hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        added = self.scale(self.linear(hidden, f'{name}.fc2'), layer, 2)
        return self.norm(added, f'blocks.{layer}.norm2') if self.after else added


def softmax(scores):
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def blocks_input(tower, images):
    """Input of the first block, (B, E + N, C), as float64."""
    with torch.no_grad():
        return tower.first_input(tower.embed(images)[0]).double().numpy()


LAST = 3


def patch(ref, x, grid):
    return ref.finish(ref.until(x, 4))


def value(ref, x, grid):
    """Zhou et al.: every token attends to itself alone."""
    return ref.finish(ref.block(ref.until(x, LAST), LAST, lambda q, k: np.eye(q.shape[1])[None]))


def self_self(part):
    """ClearCLIP: Proj(softmax(a a / sqrt(d)) v), no residual, no feed-forward network."""

    def reference(ref, x, grid):
        qkv = ref.qkv(ref.until(x, LAST), LAST)
        weights = softmax(qkv[part] @ qkv[part].swapaxes(1, 2) / np.sqrt(qkv.shape[-1]))
        return ref.finish(ref.project(weights @ qkv[2], LAST))

    return reference


def csa(ref, x, grid):
    """SCLIP: softmax(q q / sqrt(d)) + softmax(k k / sqrt(d)) in an otherwise unchanged block."""

    def attention(q, k):
        scale = np.sqrt(q.shape[-1])
        return softmax(q @ q.swapaxes(1, 2) / scale) + softmax(k @ k.swapaxes(1, 2) / scale)

    return ref.finish(ref.block(ref.until(x, LAST), LAST, attention))


def neighbourhood_attention(ref, x, grid):
    """NACLIP: softmax(k k / sqrt(d) + Gaussian), the Gaussian of the distance of patches with deviation 5."""
    k = ref.qkv(x, LAST)[1]
    return softmax(k @ k.swapaxes(1, 2) / np.sqrt(k.shape[-1]) + neighbourhood(ref, grid, k.shape[1]))


def neighbourhood(ref, grid, tokens):
    """The Gaussian (tokens, tokens) of the distance of patches, zero where no patch is."""
    near = np.zeros((tokens, tokens))
    for i, j in np.ndindex(grid[0] * grid[1], grid[0] * grid[1]):
        distance = (i // grid[1] - j // grid[1]) ** 2 + (i % grid[1] - j % grid[1]) ** 2
        near[ref.extra + i, ref.extra + j] = np.exp(-distance / 50)
    return near


def naclip(ref, x, grid):
    x = ref.until(x, LAST)
    return ref.finish(ref.project(neighbourhood_attention(ref, x, grid) @ ref.qkv(x, LAST)[2], LAST))


def resclip(ref, x, grid):
    """ResCLIP: half of it, and half of the query-key attention of the middle; of four blocks that is the third."""
    before = ref.until(x, 2)
    q, k, _ = ref.qkv(before, 2)
    middle = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
    x = ref.block(before, 2)
    weights = neighbourhood_attention(ref, x, grid) / 2 + middle / 2
    return ref.finish(ref.project(weights @ ref.qkv(x, LAST)[2], LAST))


def semantic_feedback(labels, grid):
    """ResCLIP: 1 for patches of one label, decaying with distance where the straight line between them leaves it.

    Rows are smoothed by a Gaussian of 5 patches and 3 deviations, divided by their sums, and all by the largest."""
    cells = list(np.ndindex(*grid))
    count, farthest = len(cells), max(grid) - 1
    same = np.zeros((count, count))
    for i, j in np.ndindex(count, count):
        if labels[i] != labels[j]:
            continue
        (top, left), (bottom, right) = cells[i], cells[j]
        steps = max(abs(bottom - top), abs(right - left))
        line = [
            (round(top + step * (bottom - top) / steps), round(left + step * (right - left) / steps))
            for step in range(1, steps)
        ]
        on_label = all(labels[row * grid[1] + column] == labels[i] for row, column in line)
        same[i, j] = 1 if on_label else np.exp(-steps / farthest)
    radius = min(count // 2, 15)
    smooth = np.zeros_like(same)
    for i, j in np.ndindex(count, count):
        for offset in range(-radius, radius + 1):
            if 0 <= j + offset < count:
                smooth[i, j] += same[i, j + offset] * np.exp(-(offset**2) / 50)
    smooth /= smooth.sum(-1, keepdims=True)
    return smooth / smooth.max()


def resclip_twice(ref, x, grid, labels):
    """ResCLIP with feedback: 2 (0.3 k k / sqrt(d) + 0.7 S) in the place of k k / sqrt(d), S zero where no patch is."""
    before = ref.until(x, 2)
    q, k, _ = ref.qkv(before, 2)
    middle = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
    x = ref.block(before, 2)
    _, k, v = ref.qkv(x, LAST)
    near = neighbourhood(ref, grid, k.shape[1])
    scores = 0.6 * k @ k.swapaxes(1, 2) / np.sqrt(k.shape[-1])
    scores[:, ref.extra :, ref.extra :] += 1.4 * semantic_feedback(labels, grid)
    weights = 2 * (0.7 * softmax(scores + near) + 0.3 * middle)
    return ref.finish(ref.project(weights @ v, LAST))


def outlier_factors(points, k):
    """Breunig et al., point by point."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    order = [[j for j in np.argsort(row, kind='stable') if j != i][:k] for i, row in enumerate(distances)]
    reach = [distances[i, near[-1]] for i, near in enumerate(order)]
    density = [1 / np.mean([max(reach[j], distances[i, j]) for j in near]) for i, near in enumerate(order)]
    return np.array([np.mean([density[j] for j in near]) / density[i] for i, near in enumerate(order)])


def similar(patches):
    """SC-CLIP, section IV-A: cosines, those below 0.4 set to zero."""
    unit = patches / np.linalg.norm(patches, axis=-1, keepdims=True)
    cosines = unit @ unit.T
    return np.where(cosines < 0.4, 0, cosines)


def repaired(patches, grid):
    """SC-CLIP, equation 3: an outlier becomes the mean of the sound patches in the 3 x 3 around it."""
    result = patches.copy()
    bad = set(np.argsort(-outlier_factors(patches, 20))[: round(0.05 * len(patches))])
    for i in bad:
        row, column = divmod(i, grid[1])
        around = [
            r * grid[1] + c
            for r in range(max(0, row - 1), min(grid[0], row + 2))
            for c in range(max(0, column - 1), min(grid[1], column + 2))
        ]
        result[i] = np.mean([patches[j] for j in around if j not in bad], axis=0)
    return result


def self_calibrated(ref, x, grid):
    """SC-CLIP: of four blocks the third is 9 of 12, the first 4 of 12, and 4 to 10 are the first three."""
    behind = [x]
    for layer in range(3):
        behind.append(ref.block(behind[-1], layer))
    behind = [tokens[ref.extra :] for tokens in behind]
    middle, early = similar(behind[3]), similar(behind[1])
    adjusted = middle / middle.sum(-1, keepdims=True) @ repaired(behind[3], grid)  # equation 4
    read = 0
    for tokens in (adjusted, behind[1] + behind[2] + behind[3]):
        _, k, v = ref.qkv(tokens, LAST, patches_only=True)
        weights = softmax(k @ k.swapaxes(1, 2) / np.sqrt(k.shape[-1])) + softmax(middle)  # equation 5
        read = read + ref.project(weights @ v, LAST)
    return ref.norm(early / early.sum(-1, keepdims=True) @ read, ref.final)


REFERENCES = {
    'patch': patch,
    'value': value,
    'qq': self_self(0),
    'kk': self_self(1),
    'vv': self_self(2),
    'csa': csa,
    'naclip': naclip,
    'resclip': resclip,
    'self_calibrated': self_calibrated,
}
