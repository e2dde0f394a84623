"""Train the model of a config: python tools/train.py CONFIG [--work-dir DIR --resume [CHECKPOINT] --amp ...]."""

from mmmaskclip.cli.train import command

if __name__ == '__main__':
    command()
