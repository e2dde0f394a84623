"""The model that is pretrained: two towers, their projections, and the objectives that train them."""

from functools import cached_property, partial
from typing import Any, cast

from mmengine.model import BaseModel, ModuleDict
from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.contracts import DenseTower, FollowsRun, patch_part
from mmmaskclip.models.backbones.lora import add_lora
from mmmaskclip.models.backbones.mixed_read_outs import ReadOuts, weighted_read_outs
from mmmaskclip.models.backbones.whole_image_tower import check_tower
from mmmaskclip.models.heads import ClassAndPatchesProjectionHead
from mmmaskclip.models.objectives import ImageTextContrast, Objective
from mmmaskclip.models.objectives.teacher import MomentumCopy, follow
from mmmaskclip.models.objectives.views import BatchViews
from mmmaskclip.models.pretrainers.micro_batches import check_micro_batches, losses_in_micro_batches
from mmmaskclip.models.pretrainers.preprocessor import ImageTextPreprocessor
from mmmaskclip.models.ramp import Ramp
from mmmaskclip.models.regional_compile import compile_regions, region
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class ImageTextPretrainer(BaseModel):
    """Image-text pretraining with any set of objectives (MaskCLIP section 3.3, Eq. 7).

    Args:
        image_encoder: Config of the image tower.
        image_projection: Config of the head that pools and projects its features. None, as for the text tower, where
            no objective compares images with text, because DDP refuses parameters that no loss uses.
        text_encoder: Config of the text tower, or None.
        text_projection: Config of the head that projects its features, or None.
        objectives: Configs of the objectives by name; the name is the prefix of their losses in the log. None switches
            one off that the config inherits.
        teacher_momentum: Momentum of all EMA copies per optimizer step: a number, or a ramp over the run. Defaults to
            0.999 rising linearly to 0.9999 (MaskCLIP supplement, section B).
        data_preprocessor: Config of the preprocessor, with the images' mean and std.
        micro_batch_size: Samples of each process that are computed at a time, for a batch that does not fit into
            memory: losses and gradients are those of the whole batch, at the price of one more forward pass, see
            :func:`~mmmaskclip.models.pretrainers.micro_batches.losses_in_micro_batches`. Unlike with the optimizer
            wrapper's ``accumulative_counts``, the whole batch is contrasted. Defaults to None: all at once.
        lora: Low-rank adapters in place of training all of a tower: ``dict(image_encoder=dict(rank=8),
            text_encoder=dict(rank=8, layers=['qkv']))``, one of them or both, with the arguments of
            :func:`~mmmaskclip.models.backbones.lora.add_lora`. An EMA teacher averages the adapters' factors. Defaults
            to None.
        compiled: Whether ``torch.compile`` compiles the transformer blocks, the patch embedding and the towers'
            read-outs: True, False, ``'auto'`` (on a GPU only) or a dict of its arguments, see
            :func:`~mmmaskclip.models.regional_compile.compile_regions`. Defaults to False.

    Raises:
        ValueError: If the image tower lacks a method that an objective calls, or an objective, or a batch norm, cannot
            be computed in micro-batches; or if a tower cannot have adapters.
    """

    def __init__(
        self,
        image_encoder: dict,
        image_projection: dict | None,
        text_encoder: dict | None,
        text_projection: dict | None,
        objectives: dict[str, dict | None],
        teacher_momentum: float | dict = dict(begin=0.999, end=0.9999),  # noqa: B006 (read only)
        data_preprocessor: dict | None = None,
        micro_batch_size: int | None = None,
        lora: dict[str, dict] | None = None,
        compiled: bool | str | dict = False,
        init_cfg: dict | None = None,
    ):
        # Built here, because mmengine would look it up in the root registry when no default scope is set.
        super().__init__(data_preprocessor and MODELS.build(data_preprocessor), init_cfg)
        self.image_encoder = MODELS.build(image_encoder)
        self.image_projection = _build(image_projection)
        self.text_encoder = _build(text_encoder)
        self.text_projection = _build(text_projection)
        self.objectives: dict[str, Objective] = ModuleDict(
            {name: MODELS.build(objective) for name, objective in objectives.items() if objective}
        )
        for tower, options in (lora or {}).items():
            if tower not in ('image_encoder', 'text_encoder') or getattr(self, tower) is None:
                raise ValueError(f"lora has {tower!r}: its keys are 'image_encoder' and 'text_encoder'")
            add_lora(getattr(self, tower), tower, **options)
        check_tower(self.image_encoder, self.objectives)
        self.teacher_momentum = Ramp.of(teacher_momentum)
        self.progress = 0.0
        if any(objective.needs_teacher for objective in self.objectives.values()):
            self.teacher = MomentumCopy(self.image_encoder)
        if any(objective.needs_teacher_embedding for objective in self.objectives.values()):
            self.teacher_projection = MomentumCopy(self.image_projection)
        self.micro_batch_size = micro_batch_size
        if micro_batch_size is not None:
            check_micro_batches(self, self.objectives, micro_batch_size)
        self.compile_regions(compiled)

    def compile_regions(self, how: bool | str | dict) -> None:
        """Compile the regions of this model, see the argument ``compiled``."""
        compiles = compile_regions(self, how)
        if isinstance(self.data_preprocessor, ImageTextPreprocessor):
            self.data_preprocessor.keeps_pixels = compiles

    @cached_property
    def _followers(self) -> tuple[FollowsRun, ...]:
        """Every module inside that changes during the run: objectives and losses."""
        return tuple(module for module in self.modules() if module is not self and isinstance(module, FollowsRun))

    @cached_property
    def momentum_copies(self) -> tuple[MomentumCopy, ...]:
        """Every EMA copy of this model: the teacher, and the target heads of the objectives."""
        return tuple(module for module in self.modules() if isinstance(module, MomentumCopy))

    def without_fixed_copies(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Leave out a checkpoint's EMA weights if this run's momentum is 1 throughout.

        Copies that never move are the model that the run starts from, and so start as their sources do; a checkpoint's
        EMA weights are another model.

        Args:
            state_dict: Weights by name, of a checkpoint that starts a run. A resumed run keeps its copies.
        """
        if self.teacher_momentum.begin != 1 or self.teacher_momentum.end != 1:
            return state_dict
        names = tuple(f'{name}.' for name, module in self.named_modules() if isinstance(module, MomentumCopy))
        return {name: value for name, value in state_dict.items() if not name.startswith(names)}

    def init_weights(self) -> None:
        """Initialize, then let every EMA copy start as its source."""
        super().init_weights()
        for copy in self.momentum_copies:
            copy.reset()

    def _dump_init_info(self) -> None:
        """Print nothing: mmengine would print a line for each of some hundred parameters."""

    def set_progress(self, progress: float) -> None:
        """Set the share of the run, in [0, 1], that is done; weights, momentum and temperatures depend on it."""
        self.progress = progress
        for follower in self._followers:
            follower.set_progress(progress)

    def after_optimizer_step(self) -> None:
        """Move EMA copies, centres and temperatures. Call it once after every optimizer step that was taken."""
        follow(self.momentum_copies, self.teacher_momentum(self.progress))
        for follower in self._followers:
            follower.after_optimizer_step()

    def logged(self) -> dict[str, float | Tensor]:
        """Values to log beside the losses."""
        values: dict[str, float | Tensor] = {}
        if self.momentum_copies:
            values['teacher_momentum'] = self.teacher_momentum(self.progress)
        for follower in self._followers:
            values |= follower.logged()
        return values

    def forward(self, mode: str = 'tensor', **batch) -> dict | list:
        """Run the model on a preprocessed batch.

        Args:
            mode: ``'loss'`` gives the losses of all objectives by name; ``'predict'`` gives a list with one dict per
                image (:meth:`predict`); ``'tensor'`` gives the normalized embeddings of images and captions.
            **batch: ``image`` (B, 3, H, W), ``tokens`` (B, L) and whatever else the mode needs.

        Raises:
            ValueError: If ``mode`` is unknown.
        """
        if mode == 'loss':
            return self._losses(batch)
        if mode == 'predict':
            return self.predict(batch)
        if mode == 'tensor':
            return {
                'image_embed': self.encode_image(batch['image']),
                'text_embed': self.encode_text(batch['tokens']),
            }
        raise ValueError(f"mode={mode!r}: choose 'loss', 'predict' or 'tensor'")

    def _losses(self, batch: dict) -> dict[str, Tensor]:
        """Weighted losses, and unweighted other values, of all objectives; an objective's name is the prefix."""
        if self.micro_batch_size is not None:
            by_objective = losses_in_micro_batches(
                self.objectives, partial(BatchViews, self), batch, self.micro_batch_size
            )
        else:
            views = BatchViews(self, batch)
            by_objective = {name: objective(views) for name, objective in self.objectives.items()}
        return {
            f'{name}_{key}': self.objectives[name].weight(self.progress) * value if 'loss' in key else value
            for name, values in by_objective.items()
            for key, value in values.items()
        }

    def predict(self, batch: dict) -> list[dict]:
        """Embeddings for evaluation, one dict per image.

        Args:
            batch: ``image`` (B, 3, H, W); with ``tokens`` (T, L) and ``num_captions`` (B,), or ``tokens`` (B, L), the
                captions of the images in order.

        Returns:
            Per image: ``image_embed`` (D,), ``text_embeds`` (n, D) if there are captions, and the batch's ``key``,
            ``label`` and ``mask`` where present.
        """
        columns: dict[str, Any] = {'image_embed': self.encode_image(batch['image'])}
        if 'tokens' in batch:
            counts = batch['num_captions'].tolist() if 'num_captions' in batch else [1] * len(batch['image'])
            columns['text_embeds'] = self.encode_text(batch['tokens'], batch.get('caption_ends')).split(counts)
        columns |= {name: batch[name] for name in ('key', 'label', 'mask') if name in batch}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def encode_image(self, images: Tensor) -> Tensor:
        """L2-normalized float32 embeddings (B, D) of normalized images (B, 3, H, W).

        Raises:
            AttributeError: If the model was built without an image projection.
        """
        if self.image_projection is None:
            raise AttributeError('this model has no image projection: use image_encoder.features(images)')
        return self.unit(self.image_projection(self.image_encoder.features(images)))

    def encode_text(self, word_ids: Tensor, ends: list[int] | None = None) -> Tensor:
        """L2-normalized float32 embeddings (T, D) of captions (T, L).

        Args:
            word_ids: The captions.
            ends: Positions of their ends, if the host knows them.

        Raises:
            AttributeError: If the model was built without a text tower.
        """
        if self.text_encoder is None:
            raise AttributeError('this model has no text tower: evaluate it by linear probe or fine-tuning')
        return self.unit(self.text_projection(self.text_encoder(word_ids, ends)))

    @region(any_size=True)
    def unit(self, projected: Tensor) -> Tensor:
        """Projected features (..., D), L2-normalized in float32."""
        return F.normalize(projected.float(), dim=-1)

    def tokenize(self, texts: list[str]) -> list[Tensor]:
        """Token ids (L,) of each text, by the tokenizer of the text tower.

        Raises:
            AttributeError: If the model was built without a text tower.
        """
        if self.text_encoder is None:
            raise AttributeError('this model has no text tower: evaluate it by linear probe or fine-tuning')
        return self.text_encoder.tokenize(texts)

    def texts_for_patches(self, embeds: Tensor) -> Tensor:
        """See :class:`~mmmaskclip.contracts.TextsForPatches`: half of them where the class token has the other half."""
        head = self.image_projection
        return patch_part(embeds, head.patch_dims if isinstance(head, ClassAndPatchesProjectionHead) else None)

    @property
    def context_length(self) -> int:
        """Longest caption in tokens.

        Raises:
            AttributeError: If the model was built without a text tower.
        """
        if self.text_encoder is None:
            raise AttributeError('this model has no text tower: evaluate it by linear probe or fine-tuning')
        return self.text_encoder.context_length

    def encode_dense(self, images: Tensor, read_out: ReadOuts = 'patch') -> Tensor:
        """Patch embeddings that are comparable with text.

        Args:
            images: Normalized images (B, 3, H, W) of any size.
            read_out: See :meth:`~mmmaskclip.models.backbones.CLIPVisionTransformer.dense`; or several, with weights,
                see :func:`~mmmaskclip.models.backbones.mixed_read_outs.weighted_read_outs`. Defaults to ``'patch'``.

        Returns:
            (B, D, h, w), float32; h and w are rounded up to whole patches, padding included. L2-normalized; of several
            read-outs the mean of what each gives, which is shorter where they disagree.

        Raises:
            AttributeError: If the image tower gives features of whole images only.
        """
        if not isinstance(self.image_encoder, DenseTower):
            raise AttributeError(
                f'image_encoder={type(self.image_encoder).__name__} has no dense(images, read_out), so its patches '
                'cannot be compared with words: leave segmentation and regions out of the evaluators '
                '(val_dataloader=None trains without validation), or take CLIPVisionTransformer'
            )
        embeds: Tensor | float = 0.0
        for weight, one in weighted_read_outs(read_out):
            patches, grid = self.image_encoder.dense(images, one)  # (B, N, C)
            embeds = embeds + weight * self.unit(self.image_projection.dense(patches))  # (B, N, D)
        return cast(Tensor, embeds).transpose(1, 2).unflatten(2, grid)

    def logits(self, image_embed: Tensor, text_embed: Tensor) -> Tensor:
        """Similarities over the learned temperature, float32 (R, K).

        Raises:
            AttributeError: If no objective of this model has a temperature.
        """
        for objective in self.objectives.values():
            if isinstance(objective, ImageTextContrast):
                return objective.logits(image_embed, text_embed)
        raise AttributeError(
            f'no objective among {sorted(self.objectives)} learns a temperature: compare the embeddings themselves'
        )


def _build(cfg: dict | None) -> Any:
    """The module, or None. Untyped, because no caller asks for what an absent part computes."""
    return cfg and MODELS.build(cfg)
