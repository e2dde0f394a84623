r"""Mix released weights with fine-tuned ones, parameter by parameter (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903).

python tools/model_converters/mix_weights.py WEIGHTS FINE_TUNED OUT --alpha 0 0.25 0.5 0.75 1
python tools/model_converters/mix_weights.py WEIGHTS FINE_TUNED OUT --model CONFIG \
    --test OWN_CONFIG configs/zero_shot/cifar10.py

For every A the tool writes OUT/alpha_A.safetensors, (1 - A) * WEIGHTS + A * FINE_TUNED. A mixture often keeps what the
fine-tuning has learnt and forgets less of the rest. With --test every mixture is evaluated with these configs, and
OUT/curve.md and OUT/curve.json get a line for each. WEIGHTS may be a file of OpenAI, OpenCLIP or Hugging Face.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from mmmaskclip.checkpoints.adapters import merge_adapters
from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.checkpoints.translate import convert_weights
from mmmaskclip.utils.tables import format_table


def mix(first: Mapping[str, Tensor], second: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """``(1 - alpha) * first + alpha * second`` of the parameters that both have; integers are those of the second.

    Args:
        first: Weights by name.
        second: Weights by name. Parameters that only it has (a decoder, a teacher) are left out.
        alpha: Share of the second weights, from 0 to 1.

    Raises:
        ValueError: If both have no parameter in common, if the second lacks one of the first, or if shapes differ.
    """
    lacking = sorted(first.keys() - second.keys())
    if lacking:
        raise ValueError(f'the fine-tuned weights lack {len(lacking)} of {len(first)} parameters: {lacking[:3]}')
    different = [name for name in first if first[name].shape != second[name].shape]
    if different:
        name = different[0]
        raise ValueError(
            f'{len(different)} parameters have other shapes, e.g. {name}: {tuple(first[name].shape)} and '
            f'{tuple(second[name].shape)}'
        )
    return {
        name: value.float().lerp(second[name].float(), alpha) if value.is_floating_point() else second[name]
        for name, value in first.items()
    }


def read(path: Path) -> dict[str, Tensor]:
    """Weights of a file of any format, with this package's parameter names and adapters merged."""
    return merge_adapters(convert_weights(read_state_dict(path), path))


def curve(args: argparse.Namespace, files: Mapping[float, Path]) -> dict[float, dict[str, float]]:
    """Metrics of every mixture on all ``--test`` configs."""
    from mmmaskclip.cli.test import main as test

    model = ['--model', args.model] if args.model else []
    return {
        alpha: {
            f'{Path(config).stem}/{name}': value
            for config in args.test
            for name, value in test([config, str(path), *model, '--work-dir', str(args.out / 'work')]).items()
        }
        for alpha, path in files.items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Write the mixtures, and the curve if configs to test with are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('weights', type=Path, help='what the fine-tuning started from')
    parser.add_argument('fine_tuned', type=Path, help='its result')
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument(
        '--alpha', nargs='+', type=float, default=[0.0, 0.25, 0.5, 0.75, 1.0], help='shares of the result'
    )
    parser.add_argument(
        '--test', nargs='+', default=[], metavar='CONFIG', help='configs to evaluate every mixture with'
    )
    parser.add_argument('--model', help='config of the model, for --test')
    args = parser.parse_args(argv)
    wrong = [alpha for alpha in args.alpha if not 0 <= alpha <= 1]
    if wrong:
        parser.error(f'--alpha {wrong[0]:g}: must be between 0 and 1')
    first, second = read(args.weights), read(args.fine_tuned)
    args.out.mkdir(parents=True, exist_ok=True)
    files = {}
    for alpha in sorted(args.alpha):
        files[alpha] = args.out / f'alpha_{alpha:g}.safetensors'
        save_file({name: value.contiguous() for name, value in mix(first, second, alpha).items()}, files[alpha])
        print(files[alpha])
    if args.test:
        metrics = curve(args, files)
        names = list(metrics[min(metrics)])
        rows = [[f'{alpha:g}', *(f'{row[name]:.2f}' for name in names)] for alpha, row in metrics.items()]
        table = format_table(rows, ['alpha', *names], markdown=True)
        (args.out / 'curve.md').write_text(f'{table}\n')
        (args.out / 'curve.json').write_text(json.dumps(metrics, indent=2) + '\n')
        print(table)


if __name__ == '__main__':
    main()
