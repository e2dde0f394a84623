from . import backbones, heads, losses, masking, necks, objectives, pretrainers  # noqa: F401 (registers all parts)
