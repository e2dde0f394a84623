"""``mmmaskclip-demo``: the local page with one or two models."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.apis.image_index import find_images
from mmmaskclip.cli.shipped import find_config
from mmmaskclip.demo.photos import Refused, read_photo
from mmmaskclip.demo.seen_models import SeenModel
from mmmaskclip.demo.server import LOCAL, DemoServer

_MOST_EXAMPLES = 12


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'checkpoints',
        nargs='+',
        help='one or two: a checkpoint of ours, a file or folder of OpenAI, OpenCLIP or Hugging Face, '
        'hf://OWNER/REPOSITORY, openclip:ARCHITECTURE/TAG, or "none", the untrained model of --config',
    )
    parser.add_argument('--config', nargs='+', help='one for all, or one for each [told from the checkpoint]')
    parser.add_argument('--names', nargs='+', help='what to call the models [config and checkpoint]')
    parser.add_argument('--examples', type=Path, help='folder of example photos [four generated scenes]')
    parser.add_argument('--device', help='where the models run [the GPU if there is one]')
    parser.add_argument('--port', type=int, default=7860, help='0 takes a free one [7860]')
    parser.add_argument('--host', default='127.0.0.1', help='0.0.0.0 serves the network [127.0.0.1, this machine only]')
    args = parser.parse_args(argv)
    count = len(args.checkpoints)
    if count > 2:
        parser.error(f'{count} checkpoints: the page shows one or two')
    for option, values, numbers in (('configs', args.config, (1, count)), ('names', args.names, (count,))):
        if values and len(values) not in numbers:
            parser.error(f'{len(values)} {option} for {count} checkpoints: give one for each')
    args.config = [find_config(path) for path in args.config or ()]
    for path in args.config:
        if not Path(path).is_file():
            parser.error(f'there is no config {path}')
    if 'none' in args.checkpoints and not args.config:
        parser.error('the checkpoint "none" needs a --config')
    try:
        args.photos = read_examples(args.examples) if args.examples else []
    except OSError as error:
        parser.error(f'--examples: {error}')
    return args


def read_examples(folder: Path) -> list[bytes]:
    """Contents of the first photos of a folder; files that are no photos are left out."""
    photos: list[bytes] = []
    for path in find_images(folder):
        data = path.read_bytes()
        try:
            read_photo(data)
        except Refused:
            continue
        photos.append(data)
        if len(photos) == _MOST_EXAMPLES:
            break
    return photos


def load_models(args: argparse.Namespace) -> list[SeenModel]:
    """The models of a command line, both in memory."""
    count = len(args.checkpoints)
    configs = (args.config or [None]) * (count if len(args.config) <= 1 else 1)
    models = []
    for index, (config, checkpoint) in enumerate(zip(configs, args.checkpoints, strict=True)):
        if config is None:
            inferencer = ImageTextInferencer(checkpoint, device=args.device)
        else:
            inferencer = ImageTextInferencer(config, None if checkpoint == 'none' else checkpoint, args.device)
        stem = Path(checkpoint).stem
        name = f'{Path(config).parent.name}/{Path(config).stem} {stem}' if config else stem
        models.append(SeenModel(args.names[index] if args.names else name, inferencer))
    return models


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C; returns the exit status."""
    args = parse_args(argv)
    try:
        models = load_models(args)
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f'error: {error}') from error
    try:
        server = DemoServer(models, args.host, args.port, args.photos)
    except OSError as error:
        raise SystemExit(f'error: port {args.port} of {args.host}: {error}; choose another --port') from error
    with server:
        print(f'Open {server.address} in a browser. Ctrl-C ends the page.', flush=True)
        if args.host not in LOCAL:
            print(
                f'Everybody who reaches {args.host} can use it; folders of this machine are not searched.', flush=True
            )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def command() -> None:
    """Entry point of ``mmmaskclip-demo``."""
    raise SystemExit(main())
