"""Facts about this machine for tools/dist_launch.sh: number of GPUs, cores that this process may use, a free port."""

import socket

import torch

from mmmaskclip.startup.machine import look_at_machine


def main() -> None:
    """Print the three numbers in one line."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        print(torch.cuda.device_count(), look_at_machine().cores, probe.getsockname()[1])


if __name__ == '__main__':
    main()
