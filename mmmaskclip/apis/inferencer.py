"""A pretrained model in a few lines of Python: embed, classify, retrieve, segment, see where a word is in an image."""

from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Any, Literal, cast

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from mmmaskclip.apis.image_index import ImageIndex, find_images, stamps_of
from mmmaskclip.apis.images import ImageLike, ResizedImages, refuse_one_image, stacks_of_one_shape, to_pixels
from mmmaskclip.apis.windows import average_windows, read_windows
from mmmaskclip.checkpoints.weights import load_weights
from mmmaskclip.datasets.prompts import refuse_string
from mmmaskclip.models.backbones.mixed_read_outs import ReadOuts
from mmmaskclip.models.from_pretrained import from_pretrained, image_tower_of
from mmmaskclip.models.open_vocabulary import encode_classes, encode_texts
from mmmaskclip.models.open_vocabulary.dense_similarity import dense_similarity, upsample_patches
from mmmaskclip.registry import MODELS
from mmmaskclip.startup.devices import find_device
from mmmaskclip.utils.progress import progress_bar

# Endings of configs; anything else is a file of weights.
_CONFIGS = ('.py', '.json', '.yml', '.yaml')
Result = Any  # Tensor, or np.ndarray with numpy=True


class ImageTextInferencer:
    """Uses a pretrained model on images and texts.

    mmpretrain's inferencers do not fit: each takes one kind of input, and looks models up in mmpretrain's list.

    An image is a path, bytes, a PIL image or a uint8 array (H, W, 3). Image size, resize, mean and std, and the length
    of texts are those that the model was trained with.

    Args:
        config: Config of the pretraining run, its path, or a model that is already built (then it is used as it is). Or
            the weights alone; the file and the configs beside it then describe the model: a checkpoint of ours, a file
            or folder of OpenAI's, OpenCLIP's or Hugging Face's CLIP, ``'hf://OWNER/REPOSITORY'`` or
            ``'openclip:ARCHITECTURE/TAG'``, see :func:`~mmmaskclip.models.from_pretrained.from_pretrained`.
        checkpoint: Path of the weights; nothing in the file is executed. Default: the model starts untrained.
        device: Device of the model, e.g. ``'cuda:1'``. Default: the GPU if there is one.
        numpy: Results are NumPy arrays instead of tensors. Defaults to False.
        precision: ``'float32'``, ``'bfloat16'``, or ``'auto'``: bfloat16 on GPUs that compute in it, float32
            elsewhere; of images and texts alike. Defaults to ``'float32'``.

    Raises:
        TypeError, ValueError: If the model has no ``image_encoder``, as MAE; if ``precision`` or ``device`` is unknown.
    """

    def __init__(
        self,
        config: Config | nn.Module | str | PathLike,
        checkpoint: str | PathLike | None = None,
        device: str | None = None,
        numpy: bool = False,
        precision: Literal['float32', 'bfloat16', 'auto'] = 'float32',
    ) -> None:
        if precision not in ('float32', 'bfloat16', 'auto'):
            raise ValueError(f"precision={precision!r}: choose 'float32', 'bfloat16' or 'auto'")
        self.device = find_device(device)
        if isinstance(config, nn.Module):
            model = config
        elif not isinstance(config, Config) and not str(config).endswith(_CONFIGS):
            model = from_pretrained(config).model
        else:
            config = config if isinstance(config, Config) else Config.fromfile(str(config))
            # Compiling takes longer than embedding the images of most users.
            model = MODELS.build({key: value for key, value in config.model.items() if key != 'compiled'})
            image_tower_of(model)  # before the weights of another kind of model are made
            model.init_weights()
        if checkpoint is not None:
            load_weights(model, checkpoint)
        self.model = model.to(self.device).eval()
        self.numpy = numpy
        low = precision == 'bfloat16' or (
            precision == 'auto' and self.device.type == 'cuda' and torch.cuda.is_bf16_supported(False)
        )
        self._autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=low)
        image_encoder = image_tower_of(model)
        self.image_size: tuple[int, int] = tuple(image_encoder.img_size)
        self.patch_size: int = image_encoder.patch_size[0]
        settings = cast(Any, model).data_preprocessor
        self.interpolation, self.resize_mode = settings.interpolation, settings.resize_mode

    def embed_images(self, images: Sequence[ImageLike], batch_size: int = 64, num_workers: int = 0) -> Result:
        """Embed images, each resized to the model's size by its shorter side and cropped in the middle.

        Args:
            images: B images.
            batch_size: How many are encoded at once. Defaults to 64.
            num_workers: Processes that open images. Defaults to 0, none but this one.

        Returns:
            (B, D), L2-normalized, float32; (0, D) without images.

        Raises:
            TypeError: If ``images`` is one path or one image.
            FileNotFoundError, ValueError: If an image cannot be opened.
        """
        refuse_one_image(images)
        embeds = []
        for start, found in self._embed(images, batch_size, num_workers):
            for index, one in enumerate(found, start):
                if isinstance(one, str):
                    to_pixels(images[index])  # raises the error that the worker met
                    raise ValueError(one)
            embeds += found
        return self._result(torch.stack(embeds) if embeds else self._no_images())

    def embed_folder(
        self,
        folder: str | PathLike,
        batch_size: int = 64,
        num_workers: int = 0,
        known: ImageIndex | None = None,
        report: Callable[[int, int], None] | None = None,
        progress: bool = True,
    ) -> ImageIndex:
        """Embed all images of a folder and the folders below. Images that cannot be used are reported, not fatal.

        Args:
            folder: The folder.
            batch_size: See :meth:`embed_images`.
            num_workers: See :meth:`embed_images`.
            known: An earlier index of this model; files that have not changed since are not embedded again. Default:
                none.
            report: Called with the number of images done and of all images, after every batch. Default: nothing.
            progress: Show a bar where stderr is a terminal, and below the cell of a notebook. Defaults to True.

        Returns:
            The index for :meth:`search`; its ``bad`` says why an image was left out.

        Raises:
            NotADirectoryError: If there is no such folder.
            FileNotFoundError: If it holds no image.
        """
        paths = [str(path) for path in find_images(folder)]
        embeds: dict[str, np.ndarray] = {} if known is None else known.find_known(paths)
        new, bad = [path for path in paths if path not in embeds], {}
        # Taken before the files are read, so that a file that changes meanwhile is embedded again next time.
        stamps = dict(zip(paths, stamps_of(paths), strict=True))
        with progress_bar('Embedding images', len(paths), progress) as advance:
            advance(len(embeds))
            for start, batch in self._embed(new, batch_size, num_workers):
                for path, one in zip(new[start:], batch, strict=False):
                    if isinstance(one, str):
                        bad[path] = one
                    else:
                        embeds[path] = one.cpu().numpy()
                advance(len(batch))
                if report is not None:
                    report(len(embeds) + len(bad), len(paths))
        kept = [path for path in paths if path in embeds]
        rows = [self._no_images().cpu().numpy(), *(embeds[path][None] for path in kept)]
        return ImageIndex(kept, np.concatenate(rows), bad, np.array([stamps[path] for path in kept]).reshape(-1, 2))

    def search(
        self, index: ImageIndex, query: Any, topk: int = 5
    ) -> list[tuple[str, float]] | list[list[tuple[str, float]]]:
        """Find the images of an index that fit a text, texts, or an image best.

        Args:
            index: Index from :meth:`embed_folder`.
            query: One text, a list of texts, or an image that is no path (bytes, PIL image or array).
            topk: How many to find; all where there are fewer. Defaults to 5.

        Returns:
            Paths with their cosine similarity, best first; one such list for each text of a list.
        """
        several = isinstance(query, (list, tuple))
        if several or isinstance(query, str):
            queries = self._of_texts(encode_texts, list(query) if several else [query])
        else:
            queries = torch.as_tensor(self.embed_images([query]))
        scores = queries.cpu() @ torch.from_numpy(index.embeds).T
        values, indices = scores.topk(min(topk, len(index)))
        found = [
            [(index.paths[place], score) for place, score in zip(places, row, strict=True)]
            for places, row in zip(indices.tolist(), values.tolist(), strict=True)
        ]
        return found if several else found[0]

    def embed_texts(self, texts: Sequence[str], batch_size: int = 256, for_patches: bool = False) -> Result:
        """Embed texts, cut off at the length that the model was trained with.

        Args:
            texts: T sentences.
            batch_size: How many are encoded at once. Defaults to 256.
            for_patches: Whether :meth:`dense_features` are compared with them. Defaults to False: images are.

        Returns:
            (T, D), L2-normalized, float32; (0, D) without texts.

        Raises:
            TypeError: If ``texts`` is one string.
        """
        return self._result(self._of_texts(encode_texts, texts, batch_size, for_patches))

    @torch.no_grad()
    def classify(
        self,
        images: Sequence[ImageLike],
        classes: Sequence[str | Sequence[str]],
        templates: Sequence[str] = ('a photo of a {}.',),
    ) -> Result:
        """Zero-shot classification.

        Args:
            images: B images, or their embeddings (B, D).
            classes: C class names, or lists of synonyms.
            templates: Sentences with one ``{}`` for the class name.

        Returns:
            (B, C) probabilities, under the learned temperature.

        Raises:
            TypeError: If ``images``, ``classes`` or ``templates`` is one string.
        """
        class_embeds = self._of_texts(encode_classes, classes, templates)
        return self._result(self.model.logits(self._embeddings(images), class_embeds).softmax(-1))

    def retrieve(self, texts: Sequence[str], images: Sequence[ImageLike], topk: int = 5) -> tuple[Result, Result]:
        """Find the images that fit each text best.

        Args:
            texts: T sentences.
            images: B images, or their embeddings (B, D) of :meth:`embed_images`, which are then not encoded again.
            topk: How many to find; all where there are fewer. Defaults to 5.

        Returns:
            Indices into ``images``, best first, and their cosine similarities: both (T, min(topk, B)).

        Raises:
            TypeError: If ``texts`` or ``images`` is one string.
        """
        refuse_string(texts, 'texts')
        scores = self._of_texts(encode_texts, texts) @ self._embeddings(images).T
        values, indices = scores.topk(min(topk, scores.shape[1]))
        return self._result(indices), self._result(values)

    @torch.no_grad()
    def dense_features(
        self, image: ImageLike, size: int | None = None, mode: str = 'interpolate', read_out: ReadOuts = 'patch'
    ) -> Result:
        """One vector per patch, to be compared with the embeddings of texts or with each other.

        Args:
            image: See :meth:`similarity_maps`.
            size: See :meth:`similarity_maps`.
            mode: See :meth:`similarity_maps`; but the windows lie on whole patches here.
            read_out: See :meth:`similarity_maps`.

        Returns:
            (D, h, w), L2-normalized; under ``'sliding'``, or of several read-outs, the mean of normalized vectors.

        Raises:
            ValueError: See :meth:`similarity_maps`.
        """
        seen, window = self._resized(to_pixels(image), size, mode)
        whole = [side // self.patch_size * self.patch_size for side in window]
        return self._result(read_windows(seen, whole, self.patch_size, lambda some: self._encode_dense(some, read_out)))

    @torch.no_grad()
    def similarity_maps(
        self,
        image: ImageLike,
        texts: Sequence[str],
        size: int | None = None,
        mode: str = 'interpolate',
        read_out: ReadOuts = 'patch',
    ) -> Result:
        """Where in an image a word or caption is: cosine similarity of every patch with it.

        Args:
            image: An image of any size, seen as a whole, whatever its aspect ratio.
            texts: T words or sentences, used as they are.
            size: Shorter side in pixels at which the model sees the image; the nearest number of whole patches is
                taken. Default: the shorter side of the size that the model was trained at.
            mode: ``'interpolate'``: the image in one piece, the model's positions interpolated. ``'sliding'``: windows
                of the size that it was trained at, half a window apart, their maps averaged (as MaskCLIP v1 segments).
                Defaults to ``'interpolate'``.
            read_out: See ``ImageTextPretrainer.encode_dense``. Defaults to ``'patch'``.

        Returns:
            (T, H, W), upsampled (bilinear) to the image's own size.

        Raises:
            TypeError: If ``texts`` is one string.
            ValueError: If ``mode`` or ``read_out`` is unknown, or ``size`` is not positive.
        """
        pixels = to_pixels(image)
        maps = self._maps(pixels, self._of_texts(encode_texts, texts, for_patches=True), size, mode, read_out)
        return self._result(upsample_patches(maps[None], pixels.shape[1:])[0])

    @torch.no_grad()
    def segment(
        self,
        image: ImageLike,
        classes: Sequence[str | Sequence[str]],
        templates: Sequence[str] = ('a photo of a {}.',),
        size: int | None = None,
        mode: str = 'interpolate',
        read_out: ReadOuts = 'patch',
    ) -> Result:
        """Zero-shot segmentation: every pixel is of the class that its patch is most similar to.

        Args:
            image: An image of any size.
            classes: C class names, or lists of synonyms. There is no background but a class of that name.
            templates: Sentences with one ``{}`` for the class name.
            size: See :meth:`similarity_maps`.
            mode: See :meth:`similarity_maps`.
            read_out: See :meth:`similarity_maps`.

        Returns:
            int64 (H, W), class indices, at the image's own size.

        Raises:
            TypeError: If ``classes`` or ``templates`` is one string.
            ValueError: If ``mode`` or ``read_out`` is unknown, ``size`` is not positive, or there is no class or no
                template.
        """
        pixels = to_pixels(image)
        embeds = self._of_texts(encode_classes, classes, templates, for_patches=True)
        maps = self._maps(pixels, embeds, size, mode, read_out)
        best = maps.new_full(pixels.shape[1:], -torch.inf)
        labels = torch.zeros_like(best, dtype=torch.long)
        # Class by class, because 150 maps of a photo's full size need gigabytes.
        for index in range(len(maps)):
            scores = upsample_patches(maps[None, index : index + 1], pixels.shape[1:])[0, 0]
            labels[scores > best] = index
            best = best.maximum(scores)
        return self._result(labels)

    @torch.no_grad()
    def _embed(self, images: Sequence[ImageLike], batch_size: int, num_workers: int) -> Iterator[tuple[int, list[Any]]]:
        """Yield for each batch the index of its first image, and per image the embedding (D,) or why there is none."""
        data = ResizedImages(images, self.image_size, self.interpolation, self.resize_mode, self.patch_size)
        start = 0
        for batch in DataLoader(data, batch_size, num_workers=num_workers, collate_fn=list) if len(images) else ():
            embeds: dict[int, Tensor] = {}
            for places, pixels in stacks_of_one_shape(batch):
                with self._autocast:
                    embeds |= zip(places, self.model.encode_image(self._normalized(pixels)), strict=True)
            yield start, [embeds.get(place, one) for place, one in enumerate(batch)]
            start += len(batch)

    def _of_texts(self, encode: Callable[..., Tensor], *args: Any, **options: Any) -> Tensor:
        with self._autocast:
            return encode(self.model, *args, **options).float()

    def _embeddings(self, images: Any) -> Tensor:
        if isinstance(images, (Tensor, np.ndarray)) and images.ndim == 2:
            return torch.as_tensor(images, device=self.device).float()
        return torch.as_tensor(self.embed_images(images), device=self.device)

    @torch.no_grad()
    def _no_images(self) -> Tensor:
        """Embeddings of no image, (0, D)."""
        return self.model.encode_image(torch.zeros(1, 3, *self.image_size, device=self.device))[:0]

    def _result(self, tensor: Tensor) -> Result:
        return tensor.cpu().numpy() if self.numpy else tensor

    def _maps(self, pixels: Tensor, embeds: Tensor, size: int | None, mode: str, read_out: ReadOuts) -> Tensor:
        """Similarities of an image's patches, or of its pixels as the model sees it, with texts (T, D): (T, h, w)."""
        image, window = self._resized(pixels, size, mode)
        if window == list(image.shape[2:]):
            return self._patch_similarities(image, embeds, read_out)[0]
        return average_windows(image, window, lambda some: self._patch_similarities(some, embeds, read_out))

    def _patch_similarities(self, images: Tensor, embeds: Tensor, read_out: ReadOuts) -> Tensor:
        """Cosine similarities of the patches of normalized images (B, 3, H, W) with texts (T, D): (B, T, h, w)."""
        return dense_similarity(self._encode_dense(images, read_out), embeds)

    def _encode_dense(self, images: Tensor, read_out: ReadOuts) -> Tensor:
        with self._autocast:
            return self.model.encode_dense(images, read_out)

    def _resized(self, pixels: Tensor, size: int | None, mode: str) -> tuple[Tensor, list[int]]:
        """Normalized images (1, 3, H, W) as the model sees one of pixels (3, H, W), and the size of its windows."""
        if mode not in ('interpolate', 'sliding'):
            raise ValueError(f"mode={mode!r}: choose 'interpolate' or 'sliding'")
        if size is not None and size < 1:
            raise ValueError(f'size={size}: give the shorter side in pixels, at least 1, or None')
        # Whole patches: the tower would pad the rest, and the maps would be shifted against the image.
        scale = (min(self.image_size) if size is None else size) / (min(pixels.shape[1:]) * self.patch_size)
        seen = [max(1, round(side * scale)) * self.patch_size for side in pixels.shape[1:]]
        image = self._normalized(TF.resize(pixels, seen, InterpolationMode(self.interpolation))[None])
        windows = [min(side, trained) for side, trained in zip(seen, self.image_size, strict=True)]
        return image, windows if mode == 'sliding' else seen

    def _normalized(self, pixels: Tensor) -> Tensor:
        return self.model.data_preprocessor({'image': pixels})['image']
