"""A pretrained model as one of mmseg's segmentors, so that mmseg's data sets, windows and metrics apply to it."""

from collections.abc import Sequence

from mmengine.config import ConfigDict
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

from mmmaskclip.models.backbones.read_outs import READ_OUTS, dense_features, image_share, upsample_patches
from mmmaskclip.models.open_vocabulary.class_embeddings import ClassPrompts
from mmmaskclip.models.open_vocabulary.segmentation_head import ZeroShotSegHead
from mmmaskclip.models.pretrainers import ImageTextPretrainer
from mmmaskclip.registry import MODELS

BACKGROUND = 'background'


@MODELS.register_module()
class ZeroShotSegmentor(EncoderDecoder):
    """mmseg's ``EncoderDecoder`` of a pretrained image tower and a ``ZeroShotSegHead``.

    The towers are those of ``pretrainer`` themselves, no copies; the class names are encoded once, here. Whole images
    or mmseg's sliding window, images of any size.

    Args:
        pretrainer: The model with its weights, in evaluation mode. Its mean and std apply.
        classes: Prompt file, or the names (or lists of synonyms), in the order of the mask values. With a
            ``background_threshold`` the background is the value 0, and may be left out here.
        templates: Prompt file or templates. Defaults to those of Zhou et al. and of MaskCLIP, ``'scenes_85'``.
        read_out: ``'patch'`` or ``'value'``, see :func:`~.read_outs.dense_features`. Defaults to
            ``'patch'``.
        background_threshold: See :class:`ZeroShotSegHead`. Defaults to None.
        probability_scale: See :class:`ZeroShotSegHead`. Defaults to 10.
        probability_offset: See :class:`ZeroShotSegHead`. Defaults to 0.25.
        test_cfg: ``dict(mode='whole')`` or ``dict(mode='slide', crop_size=(H, W), stride=(h, w))`` in pixels. Defaults
            to ``dict(mode='whole')``.

    Raises:
        ValueError: If ``read_out`` is unknown, or ``'background'`` is among the classes where it cannot be.
    """

    def __init__(
        self,
        pretrainer: ImageTextPretrainer,
        classes: str | Sequence[str | Sequence[str]],
        templates: str | Sequence[str] = 'scenes_85',
        read_out: str = 'patch',
        background_threshold: float | None = None,
        probability_scale: float = 10.0,
        probability_offset: float = 0.25,
        test_cfg: dict | None = None,
    ) -> None:
        if read_out not in READ_OUTS:
            raise ValueError(f'read_out={read_out!r}: choose one of {", ".join(READ_OUTS)}')
        mean, std = (getattr(pretrainer.data_preprocessor, name).flatten().tolist() for name in ('mean', 'std'))
        # Past EncoderDecoder's own __init__, which builds its parts from configs: ours exist.
        super(EncoderDecoder, self).__init__(
            data_preprocessor=dict(type='mmseg.SegDataPreProcessor', mean=mean, std=std, bgr_to_rgb=True)
        )
        self.read_out = read_out
        self.backbone = pretrainer.image_encoder
        prompts = ClassPrompts(classes, templates)
        prompts.classes = _foreground(prompts.classes, background_threshold)
        self.decode_head = ZeroShotSegHead(
            pretrainer.image_projection.projection,
            prompts.encode(pretrainer),
            background_threshold,
            probability_scale,
            probability_offset,
        )
        self.align_corners = self.decode_head.align_corners
        self.num_classes = self.out_channels = self.decode_head.num_classes
        self.test_cfg = ConfigDict(test_cfg or dict(mode='whole'))
        self.to(next(pretrainer.parameters()).device).eval()

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor]:
        """One feature map (B, C, h, w) of normalized images (B, 3, H, W), h and w rounded up to whole patches."""
        features, grid = dense_features(self.backbone, inputs, self.read_out)
        return (features.patches.transpose(1, 2).unflatten(2, grid),)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits (B, K, H, W) of normalized images (B, 3, H, W). Sizes come from the images, not from the metas.

        mmseg's own would stretch the patches that were filled up over the image, and so shift everything in it.
        """
        logits = self.decode_head(self.extract_feat(inputs))
        size = inputs.shape[2:]
        return upsample_patches(logits, size, image_share(self.backbone, size))


def _foreground(classes: tuple[tuple[str, ...], ...], threshold: float | None) -> tuple[tuple[str, ...], ...]:
    if any(BACKGROUND in names for names in classes[threshold is not None :]):
        raise ValueError(
            f'{BACKGROUND!r} is among the classes, but no text describes it: give a background_threshold and make it '
            f'the first class, or leave it out; got background_threshold={threshold} and {len(classes)} classes'
        )
    return classes[1:] if BACKGROUND in classes[0] else classes
