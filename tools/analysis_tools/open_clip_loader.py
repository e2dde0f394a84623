"""Measure the images per second of OpenCLIP's own loader; bench_loader.py runs this in another environment.

PYTHON tools/analysis_tools/open_clip_loader.py 'data/flickr8k/train-*.tar' --size 224 --workers 2 --seconds 10

Needs ``pip install 'open_clip_torch[training]' webdataset==0.2.86``, the version that OpenCLIP pins, and nothing of
this package. The pipeline is OpenCLIP's ``get_wds_dataset`` with its augmentation and tokenizer. Prints a line of JSON.
"""

import argparse
import glob
import json
import time

import open_clip
import torch
import webdataset
from open_clip_train.data import get_wds_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('urls', nargs='+')
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--workers', type=int, default=0)
    parser.add_argument('--seconds', type=float, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shards = [path for url in options.urls for path in sorted(glob.glob(url)) or [url]]
    settings = argparse.Namespace(
        train_data='::'.join(shards),
        train_num_samples=10**9,  # more than any measurement reads: no epoch ends
        train_data_upsampling_factors=None,
        dataset_resampled=True,
        seed=0,
        batch_size=options.batch_size,
        workers=options.workers,
        world_size=1,
    )
    augment = open_clip.image_transform(
        options.size,
        is_train=True,
        mean=open_clip.OPENAI_DATASET_MEAN,
        std=open_clip.OPENAI_DATASET_STD,
        aug_cfg=dict(scale=(0.5, 1.0)),
    )
    data = get_wds_dataset(settings, augment, is_train=True, tokenizer=open_clip.get_tokenizer('ViT-B-16'))
    batches = iter(data.dataloader)
    next(batches)
    images, begin, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < options.seconds:
        images += len(next(batches)[0])
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    print(json.dumps(dict(images=images, seconds=seconds, cpu=cpu, webdataset=webdataset.__version__)))


if __name__ == '__main__':
    main()
