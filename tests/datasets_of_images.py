"""Small datasets of drawn images that tests of the evaluation share."""

import torch
from torch.utils.data import Dataset

from mmmaskclip.datasets.training.collate import collate_image_text

ORDERED = dict(sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=collate_image_text)


class Coloured(Dataset):
    """A colour and something else added to it, of up to ``spread`` grey levels; the class is the colour.

    Args:
        num_samples: Images of 32 x 32.
        num_classes: Classes, in turn.
        seed: Of what is added.
        label: Makes a sample's label from the class.
        spread: Largest number that is added.
        cells: What is added is the same within cells, of which an image has so many in each direction.
    """

    def __init__(self, num_samples, num_classes=7, seed=0, label=int, spread=100, cells=4):
        self.num_samples, self.num_classes, self.seed, self.label = num_samples, num_classes, seed, label
        self.spread, self.cells = spread, cells

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        label = index % self.num_classes
        colour = torch.randint(256, (3, 1, 1), generator=torch.Generator().manual_seed(label))
        shift = torch.randint(-self.spread, self.spread, (3, self.cells, self.cells), generator=generator)
        side = 32 // self.cells
        image = (colour + shift.repeat_interleave(side, 1).repeat_interleave(side, 2)).clamp(0, 255).to(torch.uint8)
        return {'image': image, 'label': self.label(label), 'key': f'image {index}'}


class Greys(Dataset):
    """Images of few grey levels, 4 x 4 cells of 8 x 8; label, mask and captions follow from the grey.

    Args:
        num_samples: Images; an odd number leaves processes and batches with uneven tails.
        field: What a sample has beside the image: ``tokens``, ``label``, ``mask``, ``small mask`` or ``labels``.
        seed: Of the grey levels.
    """

    def __init__(self, num_samples, field, seed=0):
        self.num_samples, self.field, self.seed = num_samples, field, seed

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        grey = torch.randint(6, (4, 4), generator=generator)
        mask = grey.to(torch.uint8)  # (4, 4)
        value = int(grey.sum()) % 6
        name, field = {
            # No two alike: rounding would decide between them.
            'tokens': ('tokens', [torch.tensor([1, 5 + i + 10 * index, 49407]).int() for i in range(1 + index % 3)]),
            'label': ('label', int(grey.sum()) // 4 % 6),
            'labels': ('label', torch.tensor([value % 2, value // 2 % 2, value // 4])),
            'mask': ('mask', mask.repeat_interleave(8, 0).repeat_interleave(8, 1)),  # (32, 32)
            'small mask': ('mask', mask),
        }[self.field]
        image = (grey * 40).repeat_interleave(8, 0).repeat_interleave(8, 1).expand(3, 32, 32)
        return {'image': image.to(torch.uint8), name: field, 'key': f'{index}'}


def batch_of(dataset):
    """All samples of a dataset as one batch."""
    return collate_image_text([dataset[index] for index in range(len(dataset))])
