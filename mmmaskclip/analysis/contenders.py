"""Models whose training steps are timed side by side: pretraining configs, and OpenCLIP's models."""

from __future__ import annotations

import ast
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmmaskclip.analysis.random_batch import random_batch
from mmmaskclip.analysis.step_parts import PartClock
from mmmaskclip.contracts import FollowsRun, ImageTower
from mmmaskclip.models.pretrainers import ImageTextPretrainer
from mmmaskclip.registry import MODELS
from mmmaskclip.utils.tables import format_table

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16)
COMPILED = '+compiled'


@dataclass
class Conditions:
    """The conditions that are equal for all contenders.

    Attributes:
        device: ``'cuda'`` or ``'cpu'``.
        precision: A key of :data:`DTYPES`.
        batch_size: Images per step. None takes the config's batch size, or 32 if there are only OpenCLIP's models.
        longest_caption: Tokens of the longest caption.
        shortest_caption: Tokens of the shortest caption. The lengths are spread evenly between both.
    """

    device: str
    precision: str
    batch_size: int | None = None
    longest_caption: int = 26
    shortest_caption: int = 8


def shorten(tokens: Tensor, shortest: int) -> Tensor:
    """Captions (B, L) of lengths spread evenly over [shortest, L], the last one of L; padded with zeros."""
    count, longest = tokens.shape
    end, place = tokens[0, -1], torch.arange(longest)
    last = torch.linspace(shortest - 1, longest - 1, count).round().long().unsqueeze(1)
    return torch.where(place < last, tokens, 0).masked_fill(place == last, int(end))


class Contender:
    """A model and its optimizer. Subclasses build both and define one step."""

    model: nn.Module

    def __init__(self, name: str, conditions: Conditions) -> None:
        self.name, self.conditions, self.device = name, conditions, conditions.device
        self.seconds: list[float] = []
        self.peak_memory = 0
        self.images = self.flops = 0

    def run(self, clock: PartClock | None = None) -> None:
        """Take one step, from the forward pass to the teacher's EMA update. A clock times the step's parts."""
        raise NotImplementedError

    def watch(self, clock: PartClock) -> None:
        """Let a clock time the parts of the model in all later steps. This cannot be undone."""
        raise NotImplementedError

    def compile(self) -> None:
        """Compile the model for the next steps."""
        raise NotImplementedError

    def count_flops(self) -> None:
        """Take an uncompiled step, and count the operations of its matrix products."""
        counter = FlopCounterMode(display=False)
        with counter:
            self.run()
        self.flops = counter.get_total_flops()

    def step(self, count: int = 1) -> None:
        """Take some steps in a row and time them. Between the steps the host does not wait for the device."""
        if self.device == 'cuda':
            torch.cuda.reset_peak_memory_stats()
            others = torch.cuda.memory_allocated() - self._own_memory()
            torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            self.run()
        if self.device == 'cuda':
            torch.cuda.synchronize()
            self.peak_memory = torch.cuda.max_memory_allocated() - others
        self.seconds.append((time.perf_counter() - begin) / count)

    def parts(self, steps: int) -> dict[str, float]:
        """Milliseconds per step by part, over some further steps. Call it last: the clock slows all later steps."""
        clock = PartClock(self.device)
        self.watch(clock)
        for _ in range(steps):
            with clock.part('rest'):
                self.run(clock)
        return {name: 1e3 * seconds / steps for name, seconds in clock.seconds.items()}

    def _own_memory(self) -> int:
        state = [value for slots in self.optimizer.state.values() for value in slots.values()]
        tensors = [*self.model.parameters(), *self.model.buffers(), *(v for v in state if isinstance(v, Tensor))]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.is_cuda)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer, whose state is memory of this contender."""
        raise NotImplementedError


class OurContender(Contender):
    """A pretraining config, with optional changes: ``CONFIG@KEY=VALUE,KEY=VALUE``, as with ``--cfg-options``."""

    def __init__(self, name: str, conditions: Conditions) -> None:
        super().__init__(name, conditions)
        path, _, changes = name.partition('@')
        cfg = Config.fromfile(path)
        cfg.merge_from_dict(dict(map(_read_change, changes.split(','))) if changes else {})
        cfg.optim_wrapper.update(type='mmmaskclip.PretrainOptimWrapper', precision=conditions.precision)
        # Operations are counted before the model is compiled; `compile` does that later.
        cfg.model.pop('compiled', None)
        self.model = MODELS.build(cfg.model)
        # A GPU draws the random weights much faster than the host, which takes seconds.
        self.model.to(self.device).train()
        self.model.init_weights()
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        batch = random_batch(cfg, conditions.batch_size or cfg.train_dataloader.batch_size, conditions.longest_caption)
        batch['tokens'] = shorten(batch['tokens'], conditions.shortest_caption)
        batch['caption_ends'] = batch['tokens'].argmax(dim=1).tolist()
        self.images = len(batch['seed'])
        self.batch = {
            name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in batch.items()
        }

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.optim_wrapper.optimizer

    def compile(self) -> None:
        if isinstance(self.model, ImageTextPretrainer):
            self.model.compile_regions(True)

    def run(self, clock: PartClock | None = None) -> None:
        clock = clock or _no_clock
        with self.optim_wrapper.optim_context(self.model):
            with clock.part('preprocessor'):
                batch: dict[str, Any] = self.model.data_preprocessor(self.batch, training=True)
            losses = self.model(mode='loss', **batch)
        total, _ = self.model.parse_losses(losses)
        with clock.part('optimizer'):
            self.optim_wrapper.update_params(total)
        if isinstance(self.model, FollowsRun):  # not mmpretrain's image-only models
            with clock.part('teacher update'):
                self.model.after_optimizer_step()

    def watch(self, clock: PartClock) -> None:
        clock.watch(self.optim_wrapper, 'backward', 'backward pass')
        model = self.model
        if not isinstance(model, ImageTextPretrainer):
            return
        for name, objective in model.objectives.items():
            clock.watch(objective, 'forward', f'objective {name}')
        if model.text_encoder is not None:
            clock.watch(model, 'encode_text', 'text tower')
        towers = {'image tower': model.image_encoder}
        if any(objective.needs_teacher for objective in model.objectives.values()):
            towers['teacher'] = model.teacher.module
        for name, tower in towers.items():
            if isinstance(tower, ImageTower):
                clock.watch(tower, 'embed', f'{name}, patch embedding')
                clock.watch(tower, 'encode', _name_of_pass(name))


def _read_change(text: str) -> tuple[str, Any]:
    key, _, value = text.partition('=')
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return key, value


def _name_of_pass(tower: str) -> Any:
    def name(tokens: Tensor, visible: Tensor | None = None) -> str:
        return f'{tower}, {"whole images" if visible is None else "visible patches"}'

    return name


class OpenCLIPContender(Contender):
    """OpenCLIP with the step of OpenCLIP's trainer: its loss, autocast, AdamW (foreach), captions padded to 77."""

    def __init__(self, name: str, conditions: Conditions, batch_size: int) -> None:
        import open_clip

        super().__init__(name, conditions)
        self.model = open_clip.create_model(name.removeprefix('open_clip:')).to(self.device).train()
        self.loss = open_clip.ClipLoss()
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-4, betas=(0.9, 0.98), weight_decay=0.2)
        self.images = batch_size
        size: Any = self.model.visual.image_size
        size = (size, size) if isinstance(size, int) else tuple(size)
        self.pictures = torch.randint(0, 256, (self.images, 3, *size), dtype=torch.uint8).to(self.device)
        longest = conditions.longest_caption
        tokens = torch.randint(1, 49406, (self.images, longest))
        tokens[:, 0], tokens[:, -1] = 49406, 49407
        self.tokens = nn.functional.pad(shorten(tokens, conditions.shortest_caption), (0, 77 - longest)).to(self.device)

        self.forward: Any = self.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._optimizer

    def compile(self) -> None:
        self.forward = torch.compile(self.model)

    def run(self, clock: PartClock | None = None) -> None:
        clock = clock or _no_clock
        self._optimizer.zero_grad(set_to_none=True)
        dtype = DTYPES[self.conditions.precision]
        with torch.autocast(self.device, dtype, enabled=dtype != torch.float32):
            with clock.part('preprocessor'):
                pictures = (self.pictures.float() - 127.5) / 75
            with clock.part('towers'):
                image, text, scale = self.forward(pictures, self.tokens)[:3]
            loss = self.loss(image, text, scale)
        with clock.part('backward pass'):
            loss.backward()
        with clock.part('optimizer'):
            self._optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, 4.6052)

    def watch(self, clock: PartClock) -> None:
        if self.forward is self.model:  # a compiled model is one graph, without separate towers
            clock.watch(self.model, 'encode_image', 'image tower, whole images')
            clock.watch(self.model, 'encode_text', 'text tower')


class _NoClock(PartClock):
    def _now(self) -> float:
        return 0.0


_no_clock = _NoClock('cpu')


def build_contenders(names: list[str], conditions: Conditions) -> list[Contender]:
    """The contenders in order.

    Args:
        names: Configs, optionally followed by changes as ``@KEY=VALUE,KEY=VALUE``; or ``open_clip:NAME``. The ending
            ``+compiled`` compiles the model. OpenCLIP's models get the batch size of the first config.
        conditions: Conditions that are equal for all contenders.
    """
    ours = {
        name: OurContender(name.removesuffix(COMPILED), conditions)
        for name in names
        if not name.startswith('open_clip:')
    }
    batch_size = conditions.batch_size or next((contender.images for contender in ours.values()), 32)
    contenders: list[Contender] = []
    for name in names:
        contender = ours.get(name) or OpenCLIPContender(name.removesuffix(COMPILED), conditions, batch_size)
        contender.count_flops()
        if name.endswith(COMPILED):
            contender.name = name
            contender.compile()
        contenders.append(contender)
    return contenders


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


def compare(contenders: list[Contender], steps: int, warm_up: int, ceiling: float) -> list[dict[str, Any]]:
    """Time contenders in turns. Returns one row per contender: medians after the warm-up, and ratios to the first.

    A turn is one step on a CPU. On a GPU it is four steps, because the host prepares a step while the device computes
    the step before.
    """
    for _ in range(warm_up + steps):
        for contender in contenders:
            contender.step(4 if contender.device == 'cuda' else 1)
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


def table_of_steps(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of what :func:`compare` returns."""
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
    return format_table(cells, head, markdown=True)


def table_of_parts(parts: dict[str, dict[str, float]]) -> str:
    """A Markdown table: milliseconds by part (rows) and contender (columns)."""
    names = dict.fromkeys(name for times in parts.values() for name in times)
    cells = [[name, *(f'{times[name]:.1f}' if name in times else '' for times in parts.values())] for name in names]
    return format_table(cells, ['part', *parts], markdown=True)
