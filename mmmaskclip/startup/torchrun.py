"""torchrun, with the exit code of the process that ended first in place of its own 1.

Called by tools/dist_launch.sh. 75 says that everything was saved and the same command continues
(``mmmaskclip/utils/exit_codes.py``); torchrun would hide it.
"""

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def run() -> None:
    """Run torchrun with this process's command line.

    Raises:
        SystemExit: With the code of the process that failed first, 128 + signal where a signal ended it.
    """
    try:
        main()
    except ChildFailedError as error:
        failures = sorted(error.failures.values(), key=lambda failure: failure.timestamp)
        # A process that ends after its peers were lost names them; their own code says more.
        code = next((f.exitcode for f in failures if f.exitcode != 77), failures[0].exitcode)
        print(f'The first process to fail ended with {code}.\n{error}', flush=True)
        raise SystemExit(code if code > 0 else 128 - code) from None


if __name__ == '__main__':
    run()
