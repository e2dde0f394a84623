import pytest
import torch

from mmmaskclip.contracts import ImageFeatures
from mmmaskclip.models.heads import ImageProjectionHead


def test_mean_of_patches_or_class_token():
    features = ImageFeatures(cls=torch.randn(2, 4), patches=torch.randn(2, 9, 4))
    mean, cls = ImageProjectionHead(4, 3), ImageProjectionHead(4, 3, pool='cls')
    torch.testing.assert_close(mean(features), features.patches.mean(1) @ mean.projection.weight.t())
    torch.testing.assert_close(cls(features), features.cls @ cls.projection.weight.t())


def test_global_embedding_is_the_mean_of_the_dense_one():
    features = ImageFeatures(cls=torch.randn(2, 4), patches=torch.randn(2, 9, 4))
    head = ImageProjectionHead(4, 3)
    torch.testing.assert_close(head.dense(features.patches).mean(1), head(features))


def test_unknown_pooling():
    with pytest.raises(ValueError, match="pool='max'"):
        ImageProjectionHead(4, 3, pool='max')
