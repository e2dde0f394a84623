r"""Count the memory of a training step, and say how many pairs fit into GPUs of several sizes, in a table.

python tools/analysis_tools/count_memory.py \
    configs/finetune_clip/full_vitb32_100k.py configs/finetune_clip/lora_vitb32.py \
    --models configs/pretrained/openclip_vitb16.py configs/pretrained/openclip_vitl14.py

The tool counts the memory; it does not measure it on a GPU. It counts parameters, gradients and AdamW's moments in
float32, and the tensors that autograd saves in bfloat16. For these, torch's saved-tensor hooks run one block of each
tower on a CPU, and the tool multiplies by the number of blocks. A tenth of the GPU's memory and 1 GB stay free. The
columns of the GPUs give the largest batch, or micro_batch_size, without and with activation checkpointing of all
blocks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmmaskclip.analysis.memory import GB, StepMemory, count_memory
from mmmaskclip.cli.config import read_config
from mmmaskclip.engine.registration import register_all_modules


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='pretraining or fine-tuning configs')
    parser.add_argument('--models', nargs='+', default=[], help='configs whose towers replace those of the configs')
    parser.add_argument('--memory', nargs='+', type=int, default=[8, 16, 24, 80], help='memory of GPUs in GB')
    parser.add_argument('--caption-length', type=int, default=77, help='tokens of every caption [77]')
    args = parser.parse_args(argv)
    register_all_modules()
    heads = ['config', 'model', 'fixed, GB', 'a pair, MB', 'checkpointed', *(f'{size} GB' for size in args.memory)]
    print(f'| {" | ".join(heads)} |', '|---' * len(heads) + '|', sep='\n')
    for name in args.configs:
        for model in args.models or [None]:
            cfg = read_config(name)
            if model is not None:
                cfg.merge_from_dict({'model': _towers(read_config(model).model)})
            found = count_memory(cfg, args.caption_length)
            print(
                f'| {" | ".join(_cells(found, Path(name).stem, Path(model or name).stem, args.memory))} |', flush=True
            )


def _towers(model: dict) -> dict:
    """The keys of a model in which the configs of configs/pretrained differ."""
    parts = ('image_encoder', 'image_projection', 'text_encoder', 'text_projection')
    return {part: {key: value for key, value in model[part].items() if key != 'type'} for part in parts}


def _cells(found: StepMemory, name: str, model: str, sizes: Sequence[int]) -> list[str]:
    batches = [[found.largest_batch(size * GB, checkpointed) for checkpointed in (False, True)] for size in sizes]
    return [
        name,
        model,
        f'{found.total(0) / GB:.2f}',
        f'{found.sample / 1e6:.0f}',
        f'{found.sample_checkpointed / 1e6:.0f}',
        *(f'{whole} / {checkpointed}' for whole, checkpointed in batches),
    ]


if __name__ == '__main__':
    main()
