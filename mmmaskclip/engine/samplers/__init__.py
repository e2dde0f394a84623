from mmmaskclip.engine.samplers.resumable_sampler import ResumableSampler

__all__ = ['ResumableSampler']
