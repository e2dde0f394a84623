# What every run shares: seeds, log, checkpoints, processes.
default_scope = 'mmmaskclip'

# Ranks are seeded differently, so that they do not draw the same masks and drop the same paths. The order of the data
# comes from the run's seed and is unaffected.
randomness = dict(seed=0, diff_rank_seed=True)

default_hooks = dict(
    runtime_info=dict(type='TrainingMonitorHook'),
    timer=dict(type='StepTimerHook'),
    logger=dict(type='LoggerHook', interval=50, ignore_last=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # By iterations: an epoch of 20 million pairs takes hours.
    checkpoint=dict(type='ReliableCheckpointHook', by_epoch=False, interval=1000, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    preemption=dict(type='PreemptionHook'),
    watchdog=dict(type='WatchdogHook'),
)
custom_hooks = [dict(type='ModelStepHook'), dict(type='NonFiniteHook'), dict(type='BadSamplesHook')]

log_processor = dict(type='PretrainLogProcessor')
log_level = 'INFO'
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Half an hour, because the first step waits for the rank whose first shard comes last.
    dist_cfg=dict(backend='nccl', timeout=1800),
)

load_from = None
resume = False
