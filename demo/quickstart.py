"""From nothing to a pretrained, evaluated MaskCLIP in minutes, on generated scenes and without a GPU.

    python demo/quickstart.py
    python demo/quickstart.py --beside work_dirs/clip/vitxs8_scenes/epoch_12.pth

Generates captioned scenes as tar shards, pretrains a small model on them, evaluates zero-shot classification, retrieval
in both directions, zero-shot segmentation and pointing on held-out scenes before and after, prints one table, and draws
word-to-patch similarity maps, with --beside those of CLIP above those of MaskCLIP. Everything is in
work_dirs/quickstart/ afterwards. Ends with an error if the trained model misses its targets.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from mmengine.config import Config
from PIL import Image

from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.cli import test, train
from mmmaskclip.datasets.scenes.generator import CLASSES, draw_image, object_mask, sample_scene
from mmmaskclip.datasets.scenes.writer import default_splits, write_shards
from mmmaskclip.utils.tables import format_table
from mmmaskclip.visualization import SimilarityRow, draw_similarity_maps

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/maskclip/vitxs8_scenes_local_v1.py'
CLIP_CONFIG = ROOT / 'configs/clip/vitxs8_scenes.py'
NUM_CAPTIONS = 5
COLUMNS = {
    'classification/top1': 'zero-shot classification top-1',
    'retrieval/image_to_text_R@1': 'image to text R@1',
    'retrieval/text_to_image_R@1': 'text to image R@1',
    'segmentation/mIoU': 'zero-shot segmentation mIoU',
    'regions/pointing': 'pointing accuracy',
}
# What a sound installation reaches with room to spare, in percent.
TARGETS = {
    'classification/top1': 50,
    'retrieval/image_to_text_R@1': 18,
    'retrieval/text_to_image_R@1': 11,
    'segmentation/mIoU': 30,
    # The three seeds of docs/results.md lie between 59 and 79.
    'regions/pointing': 50,
}
PICTURE_WORDS = ('red circle', 'blue star', 'yellow square', 'green ring')


class ProgressOnly(io.TextIOBase):
    """Passes on what tells about progress, and warnings; mmengine's log has a thousand lines beside them, which are in
    the log file.

    Args:
        target: Where to write.
    """

    _WANTED = re.compile(r'Epoch|Evaluating|WARNING|ERROR|CRITICAL')

    def __init__(self, target: TextIO) -> None:
        self.target = target

    def write(self, text: str) -> int:
        # The log's handler writes a whole record at once. Only its head counts: a config, too, holds such words.
        if self._WANTED.search(text[:120]):
            self.target.write(text if text.endswith('\n') else text + '\n')
            self.target.flush()
        return len(text)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/quickstart'), help='folder for everything')
    parser.add_argument('--seed', type=int, default=0, help='of the training, not of the scenes (default 0)')
    parser.add_argument(
        '--beside', type=Path, metavar='CHECKPOINT', help=f'of {CLIP_CONFIG.relative_to(ROOT)}: draw its maps, too'
    )
    parser.add_argument(
        '--small', action='store_true', help='a quarter of a minute to try the flow; trains too little for the targets'
    )
    return parser.parse_args(argv)


def chance(num_images: int) -> dict[str, float]:
    """What guessing gives, in percent: random order for retrieval, a random class for every image and pixel, a random
    pixel for every object."""
    objects = [thing for index in range(50) for thing in sample_scene(f'chance/{index}', (2, 3)).objects]
    return {
        'classification/top1': 100 / len(CLASSES),
        'retrieval/image_to_text_R@1': 100 / num_images,
        'retrieval/text_to_image_R@1': 100 / num_images,
        # A class with a share 1/C of the pixels and a share 1/C of the guesses: intersection 1/C^2, union 2/C - 1/C^2.
        'segmentation/mIoU': 100 / (2 * len(CLASSES) - 1),
        'regions/pointing': 100 * float(np.mean([object_mask(thing, 64).mean() for thing in objects])),
    }


def missed_targets(trained: dict[str, float]) -> list[str]:
    """Which of the targets the trained model misses: one sentence for each, of its metrics in percent by name."""
    return [
        f'{title} is {trained[name]:.2f}, below {TARGETS[name]}'
        for name, title in COLUMNS.items()
        if trained[name] < TARGETS[name]
    ]


def results_table(rows: dict[str, dict[str, float]]) -> str:
    """The table in percent, with one line per row."""
    lines = [(row, *(f'{metrics[name]:.2f}' for name in COLUMNS)) for row, metrics in rows.items()]
    return format_table(lines, ['', *COLUMNS.values()])


def find_scenes(words: tuple[str, ...], num_scenes: int = 4) -> list[Image.Image]:
    """Scenes that no split holds: those of 3,000 that hold most of the words."""
    scenes = (sample_scene(f'picture/{index}', (3, 4)) for index in range(3000))
    best = sorted(scenes, key=lambda scene: -len({thing.name for thing in scene.objects} & set(words)))
    return [draw_image(scene, 64) for scene in best[:num_scenes]]


def draw_picture(models: dict[str, tuple[Path, Path]], path: Path) -> None:
    """Draws similarity maps of a few words for scenes that hold some of them.

    Args:
        models: Config and checkpoint by name; those of one scene stand one above the other.
        path: Of the picture.
    """
    with contextlib.redirect_stdout(ProgressOnly(sys.stdout)):
        loaded = {name: ImageTextInferencer(*files) for name, files in models.items()}
    # The read-out that is evaluated; one for all, because a read-out moves as much as a method.
    read_out = Config.fromfile(CONFIG).val_evaluator.several[-1].read_out
    rows = []
    for image in find_scenes(PICTURE_WORDS, 4 // len(models)):
        for name, model in loaded.items():
            maps = model.similarity_maps(image, PICTURE_WORDS, read_out=read_out)  # (T, H, W)
            rows.append(SimilarityRow(name, np.asarray(image), maps.cpu().numpy()))
    draw_similarity_maps(rows, PICTURE_WORDS, path)


def run_quietly(command: Callable, arguments: list[str]) -> Any:
    """Runs one of the tools, showing its progress only; returns what it returns."""
    print(f'$ python tools/{command.__module__.rpartition(".")[2]}.py {" ".join(arguments)}', flush=True)
    with contextlib.redirect_stdout(ProgressOnly(sys.stdout)):
        return command(arguments)


def main(argv: list[str] | None = None) -> int:
    """Runs everything; returns the process's exit status."""
    args = parse_args(argv)
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f'\n=== {text}  [{time.perf_counter() - begin:.0f} s]', flush=True)

    num_train, num_held_out = (256, 40) if args.small else (6000, 720)
    scenes, run = args.out / 'scenes', args.out / 'run'
    # An earlier quickstart's checkpoints must not be taken for this one's.
    shutil.rmtree(run, ignore_errors=True)
    os.environ['MMMASKCLIP_SCENES'] = str(scenes.resolve())
    options = ['--work-dir', str(run), '--cfg-options']
    # Not at the end of training: the test that follows is the same.
    options += ['train_cfg.val_begin=1000', f'randomness.seed={args.seed}']
    if args.small:
        options += ['train_dataloader.batch_size=32', 'train_cfg.max_epochs=2']
        # Starting a worker takes longer than this run.
        options += ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']

    say(f'1 of 5: generating {num_train} scenes to train on and 2 x {num_held_out} held-out ones')
    # A worker takes longer to start than a few scenes to draw.
    workers = 1 if args.small else min(4, os.cpu_count() or 1)
    write_shards(scenes / 'shards', default_splits(num_train, num_held_out), workers=workers)
    say('2 of 5: evaluating the untrained model')
    untrained = run_quietly(test.main, [str(CONFIG), 'none', *options])
    say('3 of 5: pretraining; "eta" is the remaining time of this step, which is most of the whole')
    run_quietly(train.main, [str(CONFIG), *options])
    say('4 of 5: evaluating the pretrained model')
    checkpoint = Path((run / 'last_checkpoint').read_text().strip())
    trained = run_quietly(test.main, [str(CONFIG), str(checkpoint), *options])
    say('5 of 5: drawing similarity maps')
    picture = args.out / 'similarity.png'
    models = {'MaskCLIP' if args.beside else '': (CONFIG, checkpoint)}
    if args.beside:
        models = {'CLIP': (CLIP_CONFIG, args.beside), **models}
    draw_picture(models, picture)

    rows = {'chance': chance(num_held_out), 'untrained': untrained, 'trained': trained}
    (args.out / 'results.json').write_text(json.dumps(rows, indent=2) + '\n')
    say('done')
    print(f'\nHeld-out scenes, percent:\n\n{results_table(rows)}\n\nPicture: {picture}\nCheckpoint: {checkpoint}')
    missed = missed_targets(trained)
    if missed and not args.small:
        print('\nTargets missed: ' + '; '.join(missed), file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
