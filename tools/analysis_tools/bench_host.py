"""Measure the time that runner and hooks take of each iteration, with a model that computes almost nothing.

python tools/analysis_tools/bench_host.py configs/clip/vitt16_flickr8k.py --iterations 1000 --later 100000

Hooks, logger, optimizer wrapper and schedules are the config's. The tool times the first iterations, then as many from
a later one on, with the histories of the log as long as a run's that came so far. It prints milliseconds of CPU time of
the training's thread per iteration, which another program on the machine changes little.
"""

import argparse
import tempfile

from mmengine.config import Config

from mmmaskclip.analysis.host_time import measure_host_time
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.utils.tables import format_table


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='a pretraining config')
    parser.add_argument('--iterations', type=int, default=1000, help='iterations to time at each place [1000]')
    parser.add_argument('--later', type=int, default=100_000, help='the later iteration [100000]')
    args = parser.parse_args(argv)
    register_all_modules()
    with tempfile.TemporaryDirectory() as folder:
        first, later = measure_host_time(Config.fromfile(args.config), folder, args.iterations, args.later)
    rows = [(name, f'{first[name]:.3f}', f'{later[name]:.3f}') for name in first]
    print(format_table(rows, ('ms per iteration', 'from 0 on', f'from {args.later} on'), markdown=True))


if __name__ == '__main__':
    main()
