"""Compare dense features: towers x read-outs x protocols in one table.

python tools/analysis_tools/compare_dense.py --model configs/pretrained/openai_vitb16.py --checkpoints ViT-B-16.pt \
    --read-outs patch value naclip --protocols configs/zero_shot_seg/camvid_maskclip.py --out work_dirs/dense

Every cell of the table is a run of tools/test.py. Its result, with all settings, is
OUT/TOWER--READ_OUT--PROTOCOL.json. Finished cells are not run again, so the command can be interrupted and later
extended. After a change of a config choose another OUT.

The table is written to OUT/table.md and OUT/table.json. Its published values are the mIoU of OpenAI's ViT-B/16
(OV-Stitcher, CVPR 2026 Findings, table 1). They were measured with SCLIP's protocol, so only runs with this protocol
show them. --pictures and --classes add OUT/pictures.png: one row per picture, one column per tower and read-out.

python tools/analysis_tools/compare_dense.py --published configs/zero_shot_seg/sclip_eight.json \
    --model configs/pretrained/openai_vitb16.py --checkpoints ViT-B-16.pt --read-outs value naclip

--published runs the protocols of a table of published rows. For every row the tool says whether it is reproduced: its
mean over the protocols differs from the published mean by at most half a point. A row cannot be judged if a data set is
missing or if a run had other settings than the protocol. The result is OUT/published.md and OUT/published.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmmaskclip.analysis.published_rows import PublishedTable, judge_row, protocol_name, read_table
from mmmaskclip.cli.options import read_value
from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.models.backbones.read_outs import READ_OUTS
from mmmaskclip.utils.progress import track
from mmmaskclip.utils.tables import format_table

PUBLISHED = read_table(Path(__file__).parents[2] / 'configs/zero_shot_seg/sclip_eight.json')


@dataclass(frozen=True)
class Cell:
    """One run: a tower, a read-out and a protocol."""

    model: str
    checkpoint: str
    read_out: str
    protocol: str

    @property
    def tower(self) -> str:
        return f'{Path(self.model).stem}-{Path(self.checkpoint).stem}'

    def path(self, out: Path) -> Path:
        """Path of the result."""
        return out / f'{self.tower}--{self.read_out}--{Path(self.protocol).stem}.json'

    def options(self) -> list[str]:
        """Options that set the read-out in the protocol's config, in its segmentor or in its metrics."""
        from mmengine.config import Config

        cfg = Config.fromfile(self.protocol)
        if 'segmentor' in cfg.test_cfg:
            return [f'test_cfg.segmentor.read_out={self.read_out}']
        return [f'test_evaluator.{task}.read_out={self.read_out}' for task in cfg.test_evaluator]

    def published(self) -> float | None:
        """The published mIoU; None if there is none for this read-out and data set, or the protocol is another."""
        return PUBLISHED.rows.get(self.read_out, {}).get(protocol_name(self.protocol))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing cells and write the table; returns 1 if a cell failed."""
    args = parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    models = every_model(args)
    cells = [
        Cell(model, checkpoint, read_out, protocol)
        for model, checkpoint in zip(models, args.checkpoints, strict=True)
        for read_out in args.read_outs
        for protocol in args.protocols
    ]
    lost = missing_data(args)
    missing = [cell for cell in cells if not cell.path(args.out).is_file() and protocol_name(cell.protocol) not in lost]
    print(f'{len(cells)} cells, {sum(cell.path(args.out).is_file() for cell in cells)} of them finished')
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = pool.map(lambda cell: run(cell, args), missing)
        succeeded = list(track(runs, 'Comparing', len(missing)))
    failed = [cell for cell, success in zip(missing, succeeded, strict=True) if not success]
    results = {cell: json.loads(cell.path(args.out).read_text()) for cell in cells if cell.path(args.out).is_file()}
    rows = make_rows({cell: result['metrics'] for cell, result in results.items()})
    table = make_table(rows)
    (args.out / 'table.md').write_text(table + '\n', encoding='utf-8')
    (args.out / 'table.json').write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
    print(table)
    if args.pictures:
        draw(args, models)
    for cell in failed:
        print(f'failed, see {cell.path(args.out).with_suffix(".log")}', file=sys.stderr)
    reproduced = judge(args, results, lost) if args.published else True
    return 1 if failed or not reproduced else 0


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', nargs='+', required=True, help='configs of the models: one, or one per checkpoint')
    parser.add_argument('--checkpoints', nargs='+', required=True, help='paths of weights, or "none"')
    parser.add_argument('--read-outs', nargs='+', choices=READ_OUTS, default=['patch', 'value', 'naclip'])
    protocols = parser.add_mutually_exclusive_group(required=True)
    protocols.add_argument('--protocols', nargs='+', help='configs with segmentation or region tasks')
    protocols.add_argument('--published', metavar='FILE.json', help='table of published rows, and its protocols')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/compare_dense'), help='[work_dirs/compare_dense]')
    parser.add_argument('--jobs', type=int, default=1, help='parallel runs [1]')
    parser.add_argument('--options', nargs='*', default=[], help='--cfg-options of every run')
    parser.add_argument('--pictures', nargs='+', default=[], help='pictures for the sheet of examples')
    parser.add_argument('--classes', nargs='+', help='names of classes for it, or one prompt file')
    args = parser.parse_args(argv)
    if args.published:
        read_published(args, parser)
    if bool(args.pictures) != bool(args.classes):
        parser.error('--pictures and --classes belong together: give both, or neither')
    if len(args.model) not in (1, len(args.checkpoints)):
        parser.error(f'{len(args.model)} models for {len(args.checkpoints)} checkpoints: give one, or one for each')
    for path in (*args.model, *args.protocols, *args.pictures, *(path for path in args.checkpoints if path != 'none')):
        if not Path(path).is_file():
            parser.error(f'there is no file {path}')
    return args


def read_published(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Replace the path of the published table by its content, and take its protocols."""
    try:
        args.published = read_table(args.published)
    except ValueError as error:
        parser.error(str(error))
    if others := [read_out for read_out in args.read_outs if read_out not in args.published.rows]:
        parser.error(f'the table has no row for {others[0]}: it has {", ".join(args.published.rows)}')
    args.protocols = args.published.protocols


def missing_data(args: argparse.Namespace) -> dict[str, str]:
    """By name of the protocol: which data is missing, for protocols with published rows."""
    if not args.published:
        return {}
    from mmengine.config import Config

    from mmmaskclip.cli.paths import check_paths

    options = dict(option.split('=', 1) for option in args.options)
    lost = {}
    for protocol in args.protocols:
        cfg = Config.fromfile(protocol)
        cfg.merge_from_dict({key: read_value(value) for key, value in options.items()})
        try:
            check_paths(cfg, 'test')
        except ConfigMistake as mistake:
            # Without the first line, which only says that the config is wrong.
            lost[protocol_name(protocol)] = str(mistake).split('\n', 1)[-1].strip()
    return lost


def judge(args: argparse.Namespace, results: dict[Cell, Any], missing: dict[str, str]) -> bool:
    """Judge for every tower and read-out whether the published row is reproduced. Returns whether all are."""
    table: PublishedTable = args.published
    by_row: dict[tuple[str, str], dict[str, Any]] = {
        (Cell(model, checkpoint, '', '').tower, read_out): {}
        for model, checkpoint in zip(every_model(args), args.checkpoints, strict=True)
        for read_out in args.read_outs
    }
    for cell, result in results.items():
        by_row[cell.tower, cell.read_out][protocol_name(cell.protocol)] = result
    judged = [
        {'tower': tower} | judge_row(table, read_out, found, missing) for (tower, read_out), found in by_row.items()
    ]
    names = [protocol_name(path) for path in table.protocols]
    cells = [
        [
            *(row['tower'], row['read-out']),
            *(f'{number(row["here"][name])} ({table.rows[row["read-out"]][name]:.1f})' for name in names),
            *(number(row['average']), f'{row["published"]:.2f}', row['verdict']),
        ]
        for row in judged
    ]
    text = format_table(cells, ['tower', 'read-out', *names, 'mean', 'published', 'verdict'], markdown=True)
    (args.out / 'published.md').write_text(f'{text}\n\nIn brackets: {table.source}.\n', encoding='utf-8')
    (args.out / 'published.json').write_text(json.dumps(judged, indent=1) + '\n', encoding='utf-8')
    for row in judged:
        print(f'{row["tower"]} {row["read-out"]}: {row["verdict"]}')
    return all(row['verdict'].startswith('reproduced') for row in judged)


def number(value: float | None) -> str:
    """Two decimals, or a dash."""
    return '-' if value is None else f'{value:.2f}'


def every_model(args: argparse.Namespace) -> list[str]:
    """The config of every checkpoint."""
    return args.model * (len(args.checkpoints) if len(args.model) == 1 else 1)


def run(cell: Cell, args: argparse.Namespace) -> bool:
    """Run one cell in a subprocess; returns whether the run succeeded."""
    path = cell.path(args.out)
    part = path.with_suffix('.part')
    command = [
        *(sys.executable, '-m', 'mmmaskclip.cli.test', cell.protocol, cell.checkpoint, '--model', cell.model),
        *('--out', str(part), '--work-dir', str(args.out / 'work' / path.stem)),
        *('--cfg-options', *cell.options(), *args.options),
    ]
    with open(path.with_suffix('.log'), 'w', encoding='utf-8') as log:
        success = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode == 0
    if success:
        part.replace(path)  # atomic: an interrupted write leaves no result
    return success


def make_rows(metrics: dict[Cell, dict[str, float]]) -> list[dict[str, Any]]:
    """One row per result and metric, with the published value and the difference from it, or None."""
    rows = []
    for cell, values in metrics.items():
        for name, value in values.items():
            published = cell.published() if name.endswith('mIoU') else None
            rows.append(
                {
                    'tower': cell.tower,
                    'read-out': cell.read_out,
                    'protocol': Path(cell.protocol).stem,
                    'metric': name,
                    'here': value,
                    'published': published,
                    'difference': None if published is None else value - published,
                }
            )
    return rows


def make_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    formats = {'here': '.2f', 'published': '.1f', 'difference': '+.2f'}
    cells = [
        ['' if value is None else format(value, formats.get(key, '')) for key, value in row.items()] for row in rows
    ]
    keys = ['tower', 'read-out', 'protocol', 'metric', 'here', 'published', 'difference']
    return format_table(cells, keys, markdown=True)


def draw(args: argparse.Namespace, models: Sequence[str]) -> None:
    """The sheet of example pictures."""
    # A local import: a table alone needs neither a model nor matplotlib.
    from mmmaskclip.apis import ImageTextInferencer
    from mmmaskclip.cli.compared_models import open_images
    from mmmaskclip.datasets.prompts import ClassPrompts
    from mmmaskclip.visualization import SegmentationRow, draw_segmentations

    prompts = ClassPrompts(args.classes[0] if len(args.classes) == 1 else args.classes, 'imagenet_7')
    pictures, titles = open_images(args.pictures), []
    columns: list[list[np.ndarray]] = [[] for _ in pictures]
    for model, checkpoint in zip(models, args.checkpoints, strict=True):
        clip = ImageTextInferencer(model, None if checkpoint == 'none' else checkpoint, numpy=True)
        for read_out in args.read_outs:
            titles.append(f'{Cell(model, checkpoint, read_out, "").tower} {read_out}')
            for row, picture in zip(columns, pictures, strict=True):
                row.append(clip.segment(picture, prompts.classes, prompts.templates, read_out=read_out))
    rows = [
        SegmentationRow(np.asarray(picture.convert('RGB')), np.stack(row))
        for picture, row in zip(pictures, columns, strict=True)
    ]
    draw_segmentations(rows, titles, [names[0] for names in prompts.classes], args.out / 'pictures.png')


if __name__ == '__main__':
    sys.exit(main())
