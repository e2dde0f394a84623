"""Time complete training steps of several models side by side, without data loading.

python tools/analysis_tools/bench_step.py open_clip:ViT-B-16+compiled configs/clip/vitb16_laion20m.py+compiled

A contender is a pretraining config, or ``open_clip:NAME`` for OpenCLIP with OpenCLIP's loss and AdamW; ``+compiled``
turns torch.compile on. All contenders get the same caption lengths, and batches already on the device. The contenders
take turns, so that a change of the machine's load affects all of them. The table gives medians and ratios to the first
contender. The share compares the rate with that of a large matrix product, measured in the same run.
"""

import argparse
import json
import statistics
import time
import warnings
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmmaskclip.analysis.random_batch import random_batch
from mmmaskclip.contracts import FollowsRun
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.registry import MODELS
from mmmaskclip.utils.tables import format_table

_DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16)


def shorten(tokens: Tensor, shortest: int) -> Tensor:
    """Captions (B, L) of lengths spread evenly over [shortest, L], the last one of L; padded with zeros."""
    count, longest = tokens.shape
    end, place = tokens[0, -1], torch.arange(longest)
    last = torch.linspace(shortest - 1, longest - 1, count).round().long().unsqueeze(1)
    return torch.where(place < last, tokens, 0).masked_fill(place == last, int(end))


class Contender:
    """A model and its optimizer. Subclasses build both and define one step."""

    model: nn.Module

    def __init__(self, name: str, args: argparse.Namespace, device: str) -> None:
        self.name, self.precision, self.device = name, args.precision, device
        self.seconds: list[float] = []
        self.peak_memory = 0
        self.images = self.flops = 0

    def run(self) -> None:
        """Take one step, from the forward pass to the teacher's EMA update."""
        raise NotImplementedError

    def compile(self) -> None:
        """Compile the model for the next steps."""
        raise NotImplementedError

    def count_flops(self) -> None:
        """Take a step and count the operations of its matrix products, uncompiled."""
        counter = FlopCounterMode(display=False)
        with counter:
            self.run()
        self.flops = counter.get_total_flops()

    def step(self) -> None:
        """Take one step and time it."""
        if self.device == 'cuda':
            torch.cuda.reset_peak_memory_stats()
            others = torch.cuda.memory_allocated() - self._own_memory()
            torch.cuda.synchronize()
        begin = time.perf_counter()
        self.run()
        if self.device == 'cuda':
            torch.cuda.synchronize()
            self.peak_memory = torch.cuda.max_memory_allocated() - others
        self.seconds.append(time.perf_counter() - begin)

    def _own_memory(self) -> int:
        state = [value for slots in self.optimizer.state.values() for value in slots.values()]
        tensors = [*self.model.parameters(), *self.model.buffers(), *(v for v in state if isinstance(v, Tensor))]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.is_cuda)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer, whose state is memory of this contender."""
        raise NotImplementedError


class OurContender(Contender):
    """A pretraining config."""

    def __init__(self, path: str, args: argparse.Namespace, device: str) -> None:
        super().__init__(path, args, device)
        cfg = Config.fromfile(path)
        cfg.optim_wrapper.update(type='mmmaskclip.PretrainOptimWrapper', precision=args.precision)
        # Operations are counted uncompiled; `compile` follows.
        cfg.model.pop('compiled', None)
        self.model = MODELS.build(cfg.model)
        self.model.init_weights()
        self.model.to(device).train()
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        batch = random_batch(cfg, args.batch_size or cfg.train_dataloader.batch_size, args.caption_length)
        batch['tokens'] = shorten(batch['tokens'], args.shortest_caption)
        self.ends = batch['tokens'].argmax(dim=1).tolist()
        self.images = len(batch['seed'])
        self.batch = {name: value.to(device) for name, value in batch.items()}

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.optim_wrapper.optimizer

    def compile(self) -> None:
        from mmmaskclip.models.backbones import compile_blocks

        compile_blocks(self.model, True)

    def run(self) -> None:
        with self.optim_wrapper.optim_context(self.model):
            batch: dict[str, Any] = self.model.data_preprocessor(self.batch, training=True)
            batch['caption_ends'] = self.ends  # the preprocessor finds the ends only in host batches
            losses = self.model(mode='loss', **batch)
        total, _ = self.model.parse_losses(losses)
        self.optim_wrapper.update_params(total)
        if isinstance(self.model, FollowsRun):  # not mmpretrain's image-only models
            self.model.after_optimizer_step()


class OpenCLIPContender(Contender):
    """OpenCLIP with the step of OpenCLIP's trainer: its loss, autocast, AdamW (foreach), captions padded to 77."""

    def __init__(self, name: str, args: argparse.Namespace, device: str, like: OurContender | None) -> None:
        import open_clip

        super().__init__(name, args, device)
        self.model = open_clip.create_model(name.removeprefix('open_clip:')).to(device).train()
        self.loss = open_clip.ClipLoss()
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-4, betas=(0.9, 0.98), weight_decay=0.2)
        self.images = args.batch_size or (like.images if like else 32)
        size = self.model.visual.image_size
        size = (size, size) if isinstance(size, int) else tuple(size)
        self.pictures = torch.randint(0, 256, (self.images, 3, *size), dtype=torch.uint8).to(device)
        tokens = torch.randint(1, 49406, (self.images, args.caption_length))
        tokens[:, 0], tokens[:, -1] = 49406, 49407
        tokens = nn.functional.pad(shorten(tokens, args.shortest_caption), (0, 77 - args.caption_length))
        self.tokens = tokens.to(device)
        self.forward: Any = self.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._optimizer

    def compile(self) -> None:
        self.forward = torch.compile(self.model)

    def run(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        dtype = _DTYPES[self.precision]
        with torch.autocast(self.device, dtype, enabled=dtype != torch.float32):
            pictures = (self.pictures.float() - 127.5) / 75
            image, text, scale = self.forward(pictures, self.tokens)[:3]
            loss = self.loss(image, text, scale)
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, 4.6052)


def matrix_ceiling(device: str, dtype: torch.dtype) -> float:
    """Operations per second of a large product of square matrices, the median of 9."""
    size = 8192 if device == 'cuda' else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        a @ b
        if device == 'cuda':
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / statistics.median(seconds[1:])


def profile(contender: Contender) -> None:
    """Print the kernels of one step, and every line that makes the host wait for a GPU."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if contender.device == 'cuda':
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as trace:
        contender.run()
    key = 'self_cuda_time_total' if contender.device == 'cuda' else 'self_cpu_time_total'
    print(f'\n{contender.name}\n{trace.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=60)}')
    if contender.device == 'cuda':
        torch.cuda.set_sync_debug_mode('warn')
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter('always')
            contender.run()
        torch.cuda.set_sync_debug_mode('default')
        for wait in waits:
            print(f'the host waits at {wait.filename}:{wait.lineno}')


def build(names: list[str], args: argparse.Namespace, device: str) -> list[Contender]:
    """The contenders in order. OpenCLIP's get the batch size of the first config; ``+compiled`` ones are compiled."""
    ours = {name: OurContender(name.split('+')[0], args, device) for name in names if not name.startswith('open_clip:')}
    like = next(iter(ours.values()), None)
    contenders = []
    for name in names:
        contender = ours.get(name) or OpenCLIPContender(name.split('+')[0], args, device, like)
        contender.count_flops()
        if name.endswith('+compiled'):
            contender.name = name
            contender.compile()
        contenders.append(contender)
    return contenders


def measure(contenders: list[Contender], warm_up: int, ceiling: float) -> list[dict[str, Any]]:
    """One row per contender, from the steps after the warm-up."""
    medians = [statistics.median(contender.seconds[warm_up:]) for contender in contenders]
    return [
        dict(
            contender=contender.name,
            seconds=seconds,
            images_per_second=contender.images / seconds,
            ratio=seconds / medians[0],
            flops_per_second=contender.flops / seconds,
            share=contender.flops / seconds / ceiling,
            peak_memory=contender.peak_memory or None,
        )
        for contender, seconds in zip(contenders, medians, strict=True)
    ]


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows as a Markdown table."""
    cells = [
        (
            row['contender'],
            f'{1e3 * row["seconds"]:.1f}',
            f'{row["images_per_second"]:.1f}',
            f'{row["ratio"]:.2f}x',
            f'{row["flops_per_second"] / 1e12:.2f}',
            f'{row["share"]:.0%}',
            f'{row["peak_memory"] / 2**30:.2f} GiB' if row['peak_memory'] else 'not measured',
        )
        for row in rows
    ]
    head = ['contender', 'ms per step', 'images/s', 'time', 'TFLOP/s', 'share', 'peak memory']
    print(format_table(cells, head, markdown=True))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('contenders', nargs='+', help='configs or open_clip:NAME, each optionally with +compiled')
    parser.add_argument('--batch-size', type=int, help="images per step [the config's]")
    parser.add_argument('--caption-length', type=int, default=26, help='tokens of the longest caption [26]')
    parser.add_argument('--shortest-caption', type=int, default=8, help='tokens of the shortest caption [8]')
    parser.add_argument('--steps', type=int, default=20, help='timed steps of each contender [20]')
    parser.add_argument('--warm-up', type=int, default=3, help='untimed first steps of each contender [3]')
    parser.add_argument('--precision', choices=_DTYPES, help='[bf16 on a GPU, fp32 on a CPU]')
    parser.add_argument('--profile', action='store_true', help='also print kernels, and the lines where the host waits')
    parser.add_argument('--json', metavar='FILE', help='also write the table to this file')
    args = parser.parse_args(argv)
    register_all_modules()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    args.precision = args.precision or ('bf16' if device == 'cuda' else 'fp32')
    contenders = build(args.contenders, args, device)
    for _ in range(args.warm_up + args.steps):
        for contender in contenders:
            contender.step()

    machine = torch.cuda.get_device_name() if device == 'cuda' else f'CPU, {torch.get_num_threads()} threads'
    ceiling = matrix_ceiling(device, _DTYPES[args.precision])
    print(
        f'torch {torch.__version__}, {machine}, {args.precision}, captions of {args.shortest_caption} to '
        f'{args.caption_length} tokens, median of {args.steps} steps, matrix products {ceiling / 1e12:.2f} TFLOP/s'
    )
    rows = measure(contenders, args.warm_up, ceiling)
    print_table(rows)
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(dict(machine=machine, torch=torch.__version__, **vars(args), rows=rows), file, indent=1)
    if args.profile:
        for contender in contenders:
            profile(contender)


if __name__ == '__main__':
    main()
