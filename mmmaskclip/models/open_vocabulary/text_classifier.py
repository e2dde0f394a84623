"""A box classifier whose weights are text embeddings of the class names: open-vocabulary detection."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from hashlib import sha256

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.checkpoints.weights import load_weights
from mmmaskclip.datasets.prompts import ClassPrompts, refuse_string
from mmmaskclip.models.open_vocabulary.class_embeddings import encode_classes
from mmmaskclip.registry import MODELS


class TextTower(nn.Module):
    """Text tower and text projection, with their names in a pretraining checkpoint."""

    def __init__(self, encoder: dict, projection: dict) -> None:
        super().__init__()
        self.text_encoder = MODELS.build(encoder)
        self.text_projection = MODELS.build(projection)

    def tokenize(self, texts: list[str]) -> list[Tensor]:
        return self.text_encoder.tokenize(texts)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.text_projection(self.text_encoder(tokens)).float(), dim=-1)


@MODELS.register_module()
class TextClassifier(nn.Module):
    """Cosine similarity of a box's projected feature with the class names' embeddings, over a temperature.

    For ``cls_predictor_cfg`` of mmdet's box heads, in the place of their linear layer. As in ViLD-text (Gu et al., ICLR
    2022, section 3.3) the last class, the background, has a learned embedding, and the softmax of the training is over
    the base classes and the background: the scores of novel classes are minus infinity then. In evaluation all classes
    compete. The embeddings are made once, by ``init_weights``, from the frozen text tower of a pretraining checkpoint,
    and are part of the detector's own checkpoints: to test one, the text tower is not needed. With other class names or
    templates than the checkpoint's they are made anew when it is loaded, and the text tower is needed.

    Args:
        in_features: Width of a box's feature; set by the head.
        out_features: Number of classes K with the background, K - 1 of which have names; set by the head.
        classes: The K - 1 class names, in the order of the labels, or a prompt file with them.
        text: The text tower: ``encoder`` and ``projection``, the configs of the pretraining's ``text_encoder`` and
            ``text_projection``; ``checkpoint``, the path of its weights; ``templates``, sentences with one ``{}``
            or the name of a prompt file.
        novel: Names among ``classes`` that have no boxes in training. Defaults to none.
        temperature: Divides the cosines; fixed. Defaults to 0.01, where CLIP clips its own.

    Raises:
        ValueError: If the number of classes is not K - 1, or a novel class is not among them.
    """

    class_embeds: Tensor
    vocabulary: Tensor
    is_novel: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        classes: str | Sequence[str],
        text: dict,
        novel: Sequence[str] = (),
        temperature: float = 0.01,
    ) -> None:
        super().__init__()
        refuse_string(novel, 'novel')
        self.text = dict(text)
        self.prompts = ClassPrompts(classes, self.text['templates'])
        names = [name if isinstance(name, str) else name[0] for name in self.prompts.classes]
        if len(names) != out_features - 1:
            raise ValueError(
                f'the box head has num_classes={out_features - 1}, but classes names {len(names)}: make them equal'
            )
        if unknown := sorted(set(novel) - set(names)):
            raise ValueError(f'novel names {unknown}, which are not among classes: correct one of the two')
        embed_dims = self.text['projection']['embed_dims']
        self.temperature = temperature
        self.projection = nn.Linear(in_features, embed_dims)
        self.background = nn.Parameter(torch.randn(1, embed_dims) * embed_dims**-0.5)
        self.register_buffer('class_embeds', torch.zeros(len(names), embed_dims))
        vocabulary = json.dumps([self.prompts.classes, self.prompts.templates]).encode()
        # Saved beside the embeddings, as the hash of the words that they embed.
        self.register_buffer('vocabulary', torch.tensor(list(sha256(vocabulary).digest()), dtype=torch.uint8))
        is_novel = [name in set(novel) for name in names]
        # Not saved: it follows from the config.
        self.register_buffer('is_novel', torch.tensor([*is_novel, False]), persistent=False)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Embed the class names.

        Raises:
            ValueError: If ``text.checkpoint`` has no text tower, or one that does not fit ``text``.
            FileNotFoundError: If there is no such file.
        """
        tower = TextTower(self.text['encoder'], self.text['projection']).eval()
        checkpoint = self.text['checkpoint']
        load_weights(tower, checkpoint, parts=('text_encoder.', 'text_projection.'))
        self.class_embeds.copy_(encode_classes(tower, self.prompts.classes, self.prompts.templates))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        """Embed the class names again if the checkpoint was trained with others."""
        saved = state_dict.get(f'{prefix}vocabulary')
        if saved is not None and not torch.equal(saved.cpu(), self.vocabulary.cpu()):
            print_log(
                'The checkpoint was trained with other class names or templates: embedding those of the config with '
                f'{self.text["checkpoint"]!r}.',
                logger='current',
                level=logging.WARNING,
            )
            self.init_weights()
            state_dict |= {f'{prefix}vocabulary': self.vocabulary, f'{prefix}class_embeds': self.class_embeds}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, features: Tensor) -> Tensor:
        """Scores (N, K) in float32, before the softmax, of the features (N, C) of boxes; in training -inf if novel."""
        # Cosines that are multiplied by 100 need more than half precision has.
        with torch.autocast(features.device.type, enabled=False):
            mapped = F.linear(features.float(), self.projection.weight, self.projection.bias)  # (N, D)
            classes = torch.cat([self.class_embeds, F.normalize(self.background, dim=-1)])  # (K, D)
            scores = F.normalize(mapped, dim=-1) @ classes.T / self.temperature  # (N, K)
        return scores.masked_fill(self.is_novel, float('-inf')) if self.training else scores
