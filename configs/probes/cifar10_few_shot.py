"""Few-shot on CIFAR-10 as JPEG files: logistic regression on 1, 5, 10, 20 and 50 images per class, three draws each.

tar xf train.tar --one-top-level=data/zero_shot/cifar10_folder
tar xf test.tar --one-top-level=data/zero_shot/cifar10_folder
python tools/test.py configs/probes/cifar10_few_shot.py CHECKPOINT --model CONFIG

Reports few_shot/5_shot/top1, the mean over the seeds, few_shot/5_shot/top1_std and so on, on all 5,000 test images.
ELEVATER takes 5, 20 and 50 shots with the seeds 0, 1, 2. For another set of the suites: pets_logistic.py, with
test_evaluator.pets.shots="[1,5,10,20,50]". Not run.
"""

_base_ = '../zero_shot/_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import labelled_images, loader, probe_loader

test_dataloader = dict(few_shot=loader(labelled_images('cifar10_folder', _base_.data_root)))
test_evaluator = dict(
    few_shot=dict(
        type='LogisticRegressionProbe',
        train_dataloader=probe_loader('cifar10_folder', _base_.data_root),
        metric='top1',
        shots=[1, 5, 10, 20, 50],
        seeds=[0, 1, 2],
    )
)
