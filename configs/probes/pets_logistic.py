"""Logistic regression on Oxford-IIIT Pets: 3,680 training images, 3,669 test images, mean accuracy per class.

python tools/test.py configs/probes/pets_logistic.py CHECKPOINT --model CONFIG

The pattern for every set of the suites: its row in mmmaskclip/datasets/evaluation/zero_shot_sets.py gives the test
split, and, in `train`, what differs in the training split. Few-shot with test_evaluator.pets.shots="[1,5,10,20,50]";
the linear probe with type='LinearClassificationProbe' and a batch_size that gives some hundreds of steps. Not run.
"""

_base_ = '../zero_shot/_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import labelled_images, loader, probe_loader

test_dataloader = dict(pets=loader(labelled_images('pets', _base_.data_root)))
test_evaluator = dict(
    pets=dict(
        type='LogisticRegressionProbe',
        train_dataloader=probe_loader('pets', _base_.data_root),
        metric='mean_per_class',
    )
)
