from mmmaskclip.engine.distributed.fsdp import FullyShardedModel

__all__ = ['FullyShardedModel']
