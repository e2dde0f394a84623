"""Evaluate a checkpoint: python tools/test.py CONFIG CHECKPOINT|none [--out FILE.json ...]."""

from mmmaskclip.cli.test import command

if __name__ == '__main__':
    command()
