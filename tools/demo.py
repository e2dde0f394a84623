"""A local page that shows where words are in photos: python tools/demo.py CHECKPOINT [--config CONFIG]."""

from mmmaskclip.cli.demo import command

if __name__ == '__main__':
    command()
