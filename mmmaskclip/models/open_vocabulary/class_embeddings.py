"""Class embeddings from prompts: what zero-shot classification and segmentation compare images with."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import TextsForPatches
from mmmaskclip.datasets.prompts import as_classes, check_templates, refuse_string
from mmmaskclip.datasets.transforms.tokenize import pad_tokens


@torch.no_grad()
def encode_texts(model: nn.Module, texts: Sequence[str], batch_size: int = 256, for_patches: bool = False) -> Tensor:
    """Encode any number of texts in batches.

    Args:
        model: Has ``encode_text(tokens (T, L)) -> (T, D)``, L2-normalized, and ``tokenize(texts)``, token ids (L,) of
            each; texts that are too long lose their end.
        texts: T sentences.
        batch_size: How many are encoded at once. Defaults to 256.
        for_patches: Whether patches are compared with them, which of some models have embeddings of their own, see
            :class:`~mmmaskclip.contracts.TextsForPatches`. Defaults to False: whole images are.

    Returns:
        (T, D), L2-normalized, on the model's device; (0, D) without texts.

    Raises:
        TypeError: If ``texts`` is one string.
    """
    refuse_string(texts, 'texts')
    device = next(model.parameters()).device
    # Without texts one is encoded all the same, for D.
    tokens = cast(Any, model).tokenize(list(texts) or [''])
    batches = [tokens[start : start + batch_size] for start in range(0, len(tokens), batch_size)]
    embeds = torch.cat([cast(Any, model).encode_text(pad_tokens(batch).to(device)) for batch in batches])
    if for_patches and isinstance(model, TextsForPatches):
        embeds = model.texts_for_patches(embeds)
    return embeds[: len(texts)]


@torch.no_grad()
def encode_classes(
    model: nn.Module,
    classes: Sequence[str | Sequence[str]],
    templates: Sequence[str],
    batch_size: int = 256,
    for_patches: bool = False,
) -> Tensor:
    """One embedding per class: the normalized mean of the normalized embeddings of all its prompts (SLIP's
    eval_zeroshot.py, which MaskCLIP uses).

    Args:
        model: Has ``encode_text``, see ``encode_texts``.
        classes: C class names, or lists of synonyms; a class's prompts are all its synonyms in all templates.
        templates: Sentences with one ``{}``.
        batch_size: How many prompts are encoded at once.
        for_patches: See ``encode_texts``. Defaults to False.

    Returns:
        (C, D), L2-normalized, float32, on the model's device.

    Raises:
        ValueError: If there is no class or no template, or a template without one ``{}``.
    """
    classes = as_classes(classes)
    if not classes or not templates:
        raise ValueError(f'zero-shot needs classes and templates; got {len(classes)} and {len(templates)}')
    check_templates(templates)
    prompts = [[template.format(name) for template in templates for name in names] for names in classes]
    every = [prompt for of_class in prompts for prompt in of_class]
    embeds = encode_texts(model, every, batch_size, for_patches).float()
    means = [of_class.mean(0) for of_class in embeds.split([len(of_class) for of_class in prompts])]
    return F.normalize(torch.stack(means), dim=-1)
