"""Options of tests/tiny/tiny.py that several test files use."""

MAP_STYLE = {
    'train_dataloader.dataset': {'type': 'TinyPairs'},
    'train_dataloader.sampler': {'type': 'DefaultSampler', 'shuffle': True},
}
# mmengine's loop, which leaves the model in evaluation mode.
VALIDATION = {
    'val_dataloader': {
        'batch_size': 3,
        'num_workers': 0,
        'dataset': {'type': 'TinyPairs', 'size': 7},
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'collate_fn': {'type': 'mmmaskclip.tiny_collate'},
    },
    'val_evaluator': {'type': 'TinyMetric'},
    'val_cfg': {'type': 'ValLoop'},
}
