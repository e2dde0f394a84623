"""The model card of an export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmmaskclip.utils.tables import format_table
from mmmaskclip.version import __version__

if TYPE_CHECKING:
    from mmmaskclip.checkpoints.export.small_graphs import Loss

_USAGE = {
    'open_clip': "model, _, preprocess = open_clip.create_model_and_transforms('local-dir:FOLDER')\n"
    "tokenizer = open_clip.get_tokenizer('local-dir:FOLDER')",
    'transformers': "model = transformers.CLIPModel.from_pretrained('FOLDER')\n"
    "processor = transformers.CLIPProcessor.from_pretrained('FOLDER')",
    'timm': "model = timm.create_model('local-dir:FOLDER', pretrained=True)",
    'onnx': "session = onnxruntime.InferenceSession('FOLDER/image.onnx')\n"
    "embeddings = session.run(None, {'images': pixels})[0]  # (B, 3, H, W) float32, normalized as preprocess.json says",
    'torchscript': 'embeddings = image(pixels)  # image is what torch.jit.load makes of FOLDER/image.pt; normalized as '
    'preprocess.json says',
}


def as_text(content: Any) -> str:
    """A text as it is, anything else as JSON."""
    return content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False) + '\n'


def model_card(
    to: str,
    digests: Mapping[str, str],
    card: Mapping[str, Any],
    losses: Mapping[str, Loss] | None = None,
    on_photos: bool = False,
) -> str:
    """The text of ``README.md``: what the model was trained on and how, its metrics, licence and hashes.

    Args:
        to: The format.
        digests: SHA-256 by the name of each file of weights.
        card: See :func:`~mmmaskclip.checkpoints.export.folder.export_folder`.
        losses: What smaller graphs lose, by the name of the file. Defaults to none.
        on_photos: Whether that was measured on photographs. Defaults to False: on noise.
    """
    metrics = card.get('metrics') or {}
    table = format_table([(key, f'{value:.4g}') for key, value in metrics.items()], ['metric', 'value'], markdown=True)
    header = ['---', f'library_name: {to}', 'tags: [clip, mmmaskclip]']
    if card.get('license'):
        header.append(f'license: {card["license"]}')
    small = [(name, f'{loss.difference:.1e}', f'{loss.cosine:.6f}') for name, loss in (losses or {}).items()]
    smaller = [
        f'Against the graphs in float32, on {"photographs" if on_photos else "four smooth images of noise"} and four '
        'captions of words drawn at random:',
        '',
        format_table(small, ['graph', 'largest difference of a number', 'lowest cosine'], markdown=True),
        '',
    ]
    return '\n'.join(
        [
            *header,
            '---',
            '',
            f'# {card.get("source", "A CLIP")}',
            '',
            f'Exported by mmmaskclip {__version__} for {to}:',
            '',
            '```python',
            _USAGE[to],
            '```',
            '',
            f'- Data: {card.get("data") or "not stated"}',
            f'- Recipe: {card.get("recipe") or "not stated"}',
            f'- Licence: {card.get("license") or "not stated"}',
            *(f'- SHA-256 of {name}: `{digest}`' for name, digest in digests.items()),
            '',
            *(smaller if small else []),
            '## Metrics',
            '',
            table if metrics else 'Not measured.',
            '',
        ]
    )
