# What watches a run of days: zero-shot accuracy on those of two sets that are on this machine. The run starts without
# them too, with a warning that says how to get them. MMMASKCLIP_EVAL names the folder that holds the sets.
_base_ = []
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

val_dataloader, val_evaluator = tasks(['imagenet', 'cifar10'], '{{$MMMASKCLIP_EVAL:data/zero_shot}}')
val_cfg = dict(type='EvaluationLoop', skip_missing=True)
