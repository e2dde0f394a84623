from mmmaskclip.models import backbones, heads, losses, masking, necks, objectives, pretrainers, tokenizers  # noqa: F401 (registers all parts)
