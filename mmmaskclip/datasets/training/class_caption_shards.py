"""Labelled images in tar shards; the captions are made from class names."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmmaskclip.datasets.labels import LabelReader
from mmmaskclip.datasets.prompts import ClassPrompts
from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.training.captions import listed
from mmmaskclip.datasets.training.image_text_shards import ImageTextShards
from mmmaskclip.datasets.training.shard_streams import RawSample
from mmmaskclip.registry import DATASETS


@DATASETS.register_module()
class ClassCaptionShards(ImageTextShards):
    """Streams labelled images as image-text pairs: a caption is a random template, filled with the class name.

    This is UniCL's image-label data (Yang et al. 2022, section 3.2). The sample's seed decides the template (and the
    synonym, if a class has several): the caption changes from epoch to epoch, and a resume does not change it. Samples
    carry their class as ``label``.

    Args:
        urls: Shards, see :class:`ImageTextShards`.
        views: Transforms by view.
        classes: Names of the classes, each one name or a list of synonyms; or a ``.txt`` file with one name per line;
            or the name or path of a prompt file, see :func:`~mmmaskclip.datasets.prompts.load_prompts`.
        templates: Sentences with one ``{}``, or the name or path of a prompt file. Default: the templates of the
            prompt file that ``classes`` names.
        label_key: Extension of the file with the class. Defaults to ``'cls'``.
        label_by: Content of that file: ``'number'`` (counted from 0), ``'name'`` (one of ``classes``), or None for
            either, if no text can be both, see :class:`~mmmaskclip.datasets.labels.LabelReader`.
        **kwargs: Other arguments of :class:`ImageTextShards`, except ``caption_key``.

    Attributes:
        num_classes (int): Number of classes; labels are 0 to ``num_classes - 1``.

    Raises:
        ValueError: If there are no classes or no templates, or a class or template is malformed.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        views: dict[str, list[Any]],
        classes: str | Sequence[str | Sequence[str]],
        templates: str | Sequence[str] | None = None,
        label_key: str = 'cls',
        label_by: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(urls, views, **kwargs)
        prompts = ClassPrompts(classes, templates)
        self.captions: ClassCaptions = ClassCaptions(prompts.classes, prompts.templates, label_key, label_by)
        self.num_classes = len(prompts.classes)

    def make_sample(self, raw: RawSample, seed: int) -> dict[str, Any]:
        """Decode and transform one sample.

        Raises:
            BadSample: If the sample cannot be used, e.g. because its label is missing or names no class.
        """
        sample = super().make_sample(raw, seed)
        sample['label'] = self.captions.label(raw.files)
        return sample


class ClassCaptions:
    """Makes all captions of a labelled image; it replaces a :class:`~.captions.CaptionReader`.

    Args:
        classes: Synonyms of each class.
        templates: Sentences with one ``{}``.
        label_key: Extension of the file with the class.
        label_by: ``'name'``, ``'number'`` or None, see :class:`~mmmaskclip.datasets.labels.LabelReader`.
    """

    def __init__(
        self, classes: Sequence[Sequence[str]], templates: Sequence[str], label_key: str, label_by: str | None = None
    ) -> None:
        self.keys = [label_key]
        self._captions = [[template.format(name) for template in templates for name in names] for names in classes]
        self._read = LabelReader(classes, label_by)

    def __call__(self, files: Mapping[str, bytes]) -> list[str]:
        """Fill every template with every name of the sample's class. Raises BadSample as :meth:`label` does."""
        return self._captions[self.label(files)]

    def label(self, files: Mapping[str, bytes]) -> int:
        """Get the class of a sample.

        Args:
            files: Content of the sample's files by extension.

        Raises:
            BadSample: ``missing_label``, ``unknown_label`` or ``ambiguous_label``.
        """
        (key,) = self.keys
        if key not in files:
            raise BadSample('missing_label', f'no {key} among {listed(files)}')
        return self._read(files[key])

    def missing(self, files: Mapping[str, bytes]) -> str | None:
        """Describe the fault of a sample's label, for the check before training. None if the label is good."""
        try:
            self.label(files)
        except BadSample as bad:
            return bad.detail
        return None
