"""How the processes of a run find each other, before there is a process group."""

from __future__ import annotations

import datetime
import fcntl
import os
import platform
import socket
import struct
import subprocess

import mmengine
import torch
from torch.distributed import Store

from mmmaskclip.utils.exit_codes import CannotStart
from mmmaskclip.utils.store import compare_ranks
from mmmaskclip.version import __version__

_SIOCGIFADDR = 0x8915


def set_slurm_environment() -> None:
    """Give this task of ``srun`` the variables that torchrun would give it.

    The port is derived from the job's number, so that two jobs on one node get different ports.
    """
    job = os.environ
    if 'MASTER_ADDR' not in job:
        listed = subprocess.run(
            ['scontrol', 'show', 'hostnames', job['SLURM_NODELIST']], capture_output=True, text=True, check=True
        )
        job['MASTER_ADDR'] = listed.stdout.split()[0]
    job.setdefault('MASTER_PORT', str(20000 + int(job.get('SLURM_JOB_ID', 9500)) % 20000))
    job['WORLD_SIZE'], job['RANK'] = job['SLURM_NTASKS'], job['SLURM_PROCID']
    job['LOCAL_RANK'] = job['SLURM_LOCALID']


def meet(timeout: float) -> tuple[Store, int, int]:
    """Connect to the store of the run, with the environment variables that torchrun sets.

    Args:
        timeout: Seconds that the store waits for a process.

    Returns:
        Store, rank and number of processes.

    Raises:
        CannotStart: If the store cannot be reached. It names address and port, and what to look at.
    """
    address, port = os.environ.get('MASTER_ADDR'), os.environ.get('MASTER_PORT')
    limit = datetime.timedelta(seconds=timeout)
    try:
        return next(torch.distributed.rendezvous('env://', timeout=limit))
    except (torch.distributed.DistError, OSError) as error:
        raise CannotStart(
            f'The store of the run at {address}:{port} cannot be reached: {error}. Is rank 0 running there, can this '
            f'machine ({socket.gethostname()}) reach it, and is the port free? Another run on that machine needs '
            'another PORT (tools/dist_train.sh) or MASTER_PORT (srun).'
        ) from error


def compare_processes(store: Store, rank: int, world_size: int, device: str) -> None:
    """Refuse to start if the processes differ in device, versions or number of processes.

    Collective, over the store. It needs no process group, which with such differences would hang or fail without
    naming a reason.

    Raises:
        CannotStart: On all ranks, if something differs. Names what differs, and on which ranks.
    """
    where = f' ({socket.gethostname()})'
    facts = {
        'device': device,
        'number of processes': world_size,
        'mmmaskclip': __version__,
        'torch': torch.__version__,
        'mmengine': mmengine.__version__,
        'python': platform.python_version(),
    }
    try:
        compare_ranks(facts, 'start', store, rank, world_size)
    except RuntimeError as error:
        raise CannotStart(f'{error} This is rank {rank}{where}.') from None


def choose_interface(address: str) -> str | None:
    """Let gloo use the network interface that leads to an address, unless the user has chosen one.

    Otherwise gloo takes the interface of the machine's own host name, which on many machines resolves to 127.0.1.1.

    Args:
        address: ``MASTER_ADDR``.

    Returns:
        Name of the interface, now in ``GLOO_SOCKET_IFNAME``; None if nothing was changed.
    """
    if 'GLOO_SOCKET_IFNAME' in os.environ:
        return None
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # sends nothing; the system chooses the route
            outgoing = probe.getsockname()[0]
            for _, name in socket.if_nameindex():
                if _address_of(probe, name) == outgoing:
                    os.environ['GLOO_SOCKET_IFNAME'] = name
                    return name
    except OSError:  # the name is not known here, or only IPv6 leads there
        return None
    return None


def _address_of(probe: socket.socket, interface: str) -> str | None:
    request = struct.pack('256s', interface.encode()[:15])
    try:
        return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24])
    except OSError:  # an interface without an address
        return None
