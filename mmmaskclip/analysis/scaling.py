"""Estimates the GPU hours of a pretraining run on other cards and more processes, from one measured step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """Figures from a GPU's data sheet.

    Attributes:
        name: Name of the card.
        matrix: Rate of dense matrix products in 16 bit, TFLOP/s.
        memory: Memory bandwidth, TB/s.
    """

    name: str
    matrix: float
    memory: float


H100 = Card('H100 SXM', 989, 3.35)
CARDS = (Card('V100 SXM2', 125, 0.9), Card('A100 SXM 80 GB', 312, 2.04), H100)


def seconds_on(card: Card, measured: float, matrix_share: float = 0.6) -> float:
    """Seconds of a step on another card, from a step measured on an H100.

    Args:
        card: The card.
        measured: Seconds on the H100.
        matrix_share: Share of the measured time that scales with the rate of matrix products. The rest scales with the
            memory bandwidth. Defaults to 0.6, an assumption.
    """
    return measured * (matrix_share * H100.matrix / card.matrix + (1 - matrix_share) * H100.memory / card.memory)


def gpu_hours(images_per_second: float, samples: float, epochs: float, efficiency: float = 1.0) -> float:
    """GPU hours of a run.

    Args:
        images_per_second: Rate of one GPU alone.
        samples: Pairs in the data set.
        epochs: Passes over the data set.
        efficiency: Share of the rate of one GPU alone that each of many GPUs reaches. Defaults to 1.
    """
    return samples * epochs / images_per_second / efficiency / 3600


def contrast_bytes(rows: int, columns: int, max_logits: int) -> int:
    """Bytes of the largest logits of one direction of InfoNCE, in float32, that a process holds at a time."""
    return 4 * (max(1, max_logits // columns) * columns if rows * columns > max_logits else rows * columns)
