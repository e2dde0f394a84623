from mmmaskclip.models import backbones, heads, losses, necks, objectives, pretrainers  # noqa: F401 (registers all parts)
