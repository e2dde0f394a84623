"""Train the model of a config: python tools/train.py CONFIG [--work-dir DIR --resume [CHECKPOINT] --amp ...]."""

from mmmaskclip.cli.train import main

if __name__ == '__main__':
    main()
