import torch

from mmmaskclip.models.pretrainers import ImageTextPreprocessor, ImageViewsPreprocessor


def test_one_view_is_a_tensor_and_several_are_a_list():
    batch = {name: torch.full((2, 3, 8, 8), value, dtype=torch.uint8) for name, value in dict(a=0, b=255).items()}
    batch['tokens'] = torch.zeros(2, 4)
    one = ImageViewsPreprocessor([127.5] * 3, [127.5] * 3, views=('b',))(batch, training=True)
    assert one['inputs'].unique().tolist() == [1]
    assert set(one) == {'inputs', 'data_samples'}
    two = ImageViewsPreprocessor([127.5] * 3, [127.5] * 3, views=('a', 'b'))(batch, training=True)['inputs']
    assert [view.unique().tolist() for view in two] == [[-1], [1]]


def test_names_of_samples_are_not_looked_at_one_by_one(monkeypatch):
    asked = []
    cast_data = ImageTextPreprocessor.cast_data
    monkeypatch.setattr(
        ImageTextPreprocessor, 'cast_data', lambda self, data: asked.append(data) or cast_data(self, data)
    )
    crops = [torch.zeros(2, 3, 4, 4, dtype=torch.uint8)] * 2
    batch = {
        'caption_ends': [3, 1],
        'image': crops[0],
        'crops': crops,
        'label': torch.tensor([0, 1]),
        'key': ['a', 'b'],
        'skipped': [],
    }
    prepared = ImageTextPreprocessor([0.0] * 3, [1.0] * 3)(batch)
    assert (prepared['key'], prepared['caption_ends']) == (['a', 'b'], [3, 1])
    assert not any(isinstance(value, (str, int)) for value in asked)
    assert prepared.keys() == batch.keys()
