# What every downstream run shares: seeds, log, checkpoints, processes. A config sets default_scope, the interval and
# unit of the checkpoints, the log and the visualizer, which differ between the toolboxes.

# As in pretraining: ranks drop different paths and crop differently; the data's order comes from the run's seed.
randomness = dict(seed=0, diff_rank_seed=True)

default_hooks = dict(
    # With their package: these are mmengine's under every default_scope.
    runtime_info=dict(type='mmengine.RuntimeInfoHook'),
    timer=dict(type='mmengine.IterTimerHook'),
    logger=dict(type='mmengine.LoggerHook', interval=50),
    param_scheduler=dict(type='mmengine.ParamSchedulerHook'),
    checkpoint=dict(type='mmmaskclip.ReliableCheckpointHook', max_keep_ckpts=2),
    sampler_seed=dict(type='mmengine.DistSamplerSeedHook'),
    # With an optim_wrapper of type mmmaskclip.PretrainOptimWrapper, which skips the steps.
    nonfinite=dict(type='mmmaskclip.NonFiniteHook'),
    preemption=dict(type='mmmaskclip.PreemptionHook'),
    watchdog=dict(type='mmmaskclip.WatchdogHook'),
)

log_level = 'INFO'

env_cfg = dict(
    # Images of one size are the rule in classification and segmentation; detection turns it off.
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=1800),
)

load_from = None
resume = False
