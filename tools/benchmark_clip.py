"""Evaluate a checkpoint of ours with CLIP_benchmark: its command, with the model type mmmaskclip.

python tools/benchmark_clip.py eval --pretrained CHECKPOINT --dataset NAME --dataset_root DATA  # not run: it downloads

CHECKPOINT is whatever mmmaskclip.load takes; --model CONFIG gives its config where it holds none. All else is
CLIP_benchmark's (pip install clip-benchmark): python tools/benchmark_clip.py eval --help. Results go to
{dataset}_{task}.json, unless --output says otherwise.
"""

import sys

from mmmaskclip.apis.clip_benchmark import run


def main() -> None:
    run(sys.argv[1:])


if __name__ == '__main__':
    main()
