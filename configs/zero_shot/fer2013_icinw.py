"""Zero-shot on FER2013, private test images: ICinW's prompts, top-1; for ICinW.

python tools/test.py configs/zero_shot/fer2013_icinw.py CHECKPOINT --model CONFIG

CLIP_benchmark's export holds the public test images too, 7,178. Not run.
"""

_base_ = './fer2013.py'

test_dataloader = dict(
    fer2013=dict(
        dataset=dict(
            transforms=_base_.bicubic,
            source=dict(_delete_=True, type='torchvision/ImageFolder', root=_base_.data_root + '/fer2013_icinw/test'),
            folder=_base_.data_root + '/fer2013_icinw/test',
            shards=None,
            num_samples=3589,
            label_order=None,
            folders=['angry', 'disgusted', 'fearful', 'happy', 'neutral', 'sad', 'surprised'],
            get=(
                'One folder per class, of the private test images: angry, disgusted, fearful, happy, neutral, sad, '
                'surprised.'
            ),
            classes='fer2013_icinw',
        )
    )
)
test_evaluator = dict(fer2013=dict(classes='fer2013_icinw'))
