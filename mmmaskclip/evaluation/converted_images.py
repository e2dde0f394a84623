"""Counts the images that were converted on reading, as the protocols of published sets do."""

import logging
from collections import Counter
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.logging import print_log

_NAMED = 5


class ConvertedImages:
    """Collects which images :class:`~mmmaskclip.datasets.evaluation.labelled_images.LabelledImages` has converted."""

    def __init__(self) -> None:
        self._causes: dict[str, str] = {}

    def add(self, batch: Any) -> None:
        """Note the images of one batch.

        Args:
            batch: With ``key`` and ``converted``, B strings each. ``converted`` says why an image was converted; it is
                empty if the image was not. A batch without these keys comes from another data set and is ignored.
        """
        if 'converted' in batch:
            self._causes |= {key: why for key, why in zip(batch['key'], batch['converted'], strict=True) if why}

    def report(self, what: str, total: int) -> None:
        """Log how many images of all processes were converted, by cause, with some of their names. Collective.

        Args:
            what: The data set that the images belong to, for the message.
            total: Number of images.
        """
        # By name, because a sampler may repeat samples to fill the last batch.
        causes = {key: why for part in all_gather_object(self._causes) for key, why in part.items()}
        if not causes:
            return
        counts = ', '.join(f'{why} {number}' for why, number in sorted(Counter(causes.values()).items()))
        names = ', '.join(sorted(causes)[:_NAMED]) + (', ...' if len(causes) > _NAMED else '')
        print_log(
            f'{what}: {len(causes)} of {total} images were converted, as in the protocols of published sets ({counts}'
            f'): {names}.',
            logger='current',
            level=logging.WARNING,
        )
