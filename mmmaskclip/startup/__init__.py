"""What happens before the first line of a command: dependencies, quiet imports, mmcv's operators, processes."""
