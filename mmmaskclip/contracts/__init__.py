"""The contracts between the parts of mmmaskclip.

A part of your own fits if it has the methods of its contract, a ``typing.Protocol``. A part that subclasses the
contract also inherits its defaults. Each contract says who calls the part, and with which shapes. One page per reader:

* :mod:`~mmmaskclip.contracts.training`: for the author of a tower, a loss, an objective or a model;
* :mod:`~mmmaskclip.contracts.data`: for the author of a dataset or a sampler;
* :mod:`~mmmaskclip.contracts.evaluation`: for the author of a metric, or of a model with dense features;
* :mod:`~mmmaskclip.contracts.values`: the data classes that the parts hand to each other.

Letters of shapes: B images or pairs of this process, G of all processes, N patches of an image, K of them visible,
C width of a tower, D of the shared embedding, T captions, L words of a caption (start, end and padding included).

An image has patches, a caption has words, and an image tokenizer gives codes. In a batch, ``tokens`` are word ids, as
CLIP's tokenizer calls them. In a transformer's block, a token is any element of its sequence, the class token included.
"""

from mmmaskclip.contracts.data import (
    ChecksBeforeTraining,
    CountsSamples,
    Described,
    FixesBatches,
    OrdersEpochs,
    TrainingSamples,
)
from mmmaskclip.contracts.evaluation import (
    ChecksData,
    DenseTower,
    ListsCaptions,
    Metric,
    OpenVocabularyModel,
    PreparedMetric,
    SelfPredictingMetric,
    TextsForPatches,
)
from mmmaskclip.contracts.training import (
    ContrastiveLoss,
    FollowsRun,
    ImageTower,
    Loss,
    MaskGenerator,
    Objective,
    PretrainModel,
    TextTower,
    Views,
)
from mmmaskclip.contracts.values import POOLS, ImageFeatures, Mask, Pairs, Similarities, check_pool, patch_part

__all__ = [
    'POOLS',
    'ChecksBeforeTraining',
    'ChecksData',
    'ContrastiveLoss',
    'CountsSamples',
    'DenseTower',
    'Described',
    'FixesBatches',
    'FollowsRun',
    'ImageFeatures',
    'ImageTower',
    'ListsCaptions',
    'Loss',
    'Mask',
    'MaskGenerator',
    'Metric',
    'Objective',
    'OpenVocabularyModel',
    'OrdersEpochs',
    'Pairs',
    'PreparedMetric',
    'PretrainModel',
    'SelfPredictingMetric',
    'Similarities',
    'TextTower',
    'TextsForPatches',
    'TrainingSamples',
    'Views',
    'check_pool',
    'patch_part',
]
