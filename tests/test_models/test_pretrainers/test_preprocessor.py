import torch

from mmmaskclip.models.pretrainers import ImageViewsPreprocessor


def test_one_view_is_a_tensor_and_several_are_a_list():
    batch = {name: torch.full((2, 3, 8, 8), value, dtype=torch.uint8) for name, value in dict(a=0, b=255).items()}
    batch['tokens'] = torch.zeros(2, 4)
    one = ImageViewsPreprocessor([127.5] * 3, [127.5] * 3, views=('b',))(batch, training=True)
    assert one['inputs'].unique().tolist() == [1]
    assert set(one) == {'inputs', 'data_samples'}
    two = ImageViewsPreprocessor([127.5] * 3, [127.5] * 3, views=('a', 'b'))(batch, training=True)['inputs']
    assert [view.unique().tolist() for view in two] == [[-1], [1]]
