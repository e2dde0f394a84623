"""Time whole training steps of several configs side by side, without data loading.

python tools/analysis_tools/bench_step.py configs/clip/vitb16_laion20m.py configs/maskclip/vitb16_laion20m_v1.py

The configs take turns, so that a change in the machine's load meets all of them; the table gives the median step and
its ratio to the first config's.
"""

import argparse
import statistics
import time

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import Tensor, nn

from mmmaskclip.analysis.random_batch import random_batch
from mmmaskclip.contracts import FollowsRun
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.registry import MODELS


class Contender:
    """One config's model and optimizer, ready to step."""

    def __init__(self, path: str, device: str, batch_size: int | None, caption_length: int) -> None:
        cfg = Config.fromfile(path)
        self.path = path
        self.model: nn.Module = MODELS.build(cfg.model)
        self.model.init_weights()
        self.model.to(device).train()
        self.optim_wrapper: OptimWrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.batch = random_batch(cfg, batch_size or cfg.train_dataloader.batch_size, caption_length)
        self.seconds: list[float] = []
        self.peak_memory = 0

    def step(self) -> None:
        """Take one step and time it, from the batch in host memory to the updated teacher."""
        on_gpu = next(self.model.parameters()).is_cuda
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
            others = torch.cuda.memory_allocated() - self._own_memory()
            torch.cuda.synchronize()
        begin = time.perf_counter()
        self.model.train_step(self.batch, self.optim_wrapper)
        if isinstance(self.model, FollowsRun):  # the image-only models of mmpretrain are none
            self.model.after_optimizer_step()
        if on_gpu:
            torch.cuda.synchronize()
            self.peak_memory = torch.cuda.max_memory_allocated() - others
        self.seconds.append(time.perf_counter() - begin)

    def _own_memory(self) -> int:
        state = [value for slots in self.optim_wrapper.optimizer.state.values() for value in slots.values()]
        tensors = [*self.model.parameters(), *self.model.buffers(), *(v for v in state if isinstance(v, Tensor))]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.is_cuda)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('configs', nargs='+', help='pretraining configs; the first is the reference of the ratios')
    parser.add_argument('--batch-size', type=int, help="images per step [the config's]")
    parser.add_argument('--caption-length', type=int, default=77, help='tokens of the longest caption [77]')
    parser.add_argument('--steps', type=int, default=20, help='timed steps of each config [20]')
    parser.add_argument('--warm-up', type=int, default=3, help='steps of each config before [3]')
    args = parser.parse_args()
    register_all_modules()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    contenders = [Contender(path, device, args.batch_size, args.caption_length) for path in args.configs]
    for _ in range(args.warm_up + args.steps):
        for contender in contenders:
            contender.step()

    name = torch.cuda.get_device_name() if device == 'cuda' else f'CPU, {torch.get_num_threads()} threads'
    print(f'torch {torch.__version__}, {name}, captions of {args.caption_length} tokens, median of {args.steps} steps')
    print('| config | ms per step | images/s | time | peak memory |\n|---|---|---|---|---|')
    reference = None
    for contender in contenders:
        seconds = statistics.median(contender.seconds[args.warm_up :])
        reference = reference or seconds
        memory = f'{contender.peak_memory / 2**30:.2f} GiB' if device == 'cuda' else 'not measured'
        rate = len(contender.batch['seed']) / seconds
        print(f'| {contender.path} | {1e3 * seconds:.1f} | {rate:.1f} | {seconds / reference:.2f}x | {memory} |')


if __name__ == '__main__':
    main()
