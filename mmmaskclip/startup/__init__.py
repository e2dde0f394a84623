"""The start of a program: check of dependencies, quiet imports, mmcv's operators, device and processes."""
