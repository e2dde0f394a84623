"""torchrun, with the exit code of the process that failed first; torchrun itself always exits with 1.

tools/dist_launch.sh calls this module. Exit code 75, for example, says that everything was saved and that the same
command continues the run (``mmmaskclip/utils/exit_codes.py``). torchrun would hide it.
"""

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def run() -> None:
    """Run torchrun with this process's command line.

    Raises:
        SystemExit: With the exit code of the process that failed first; with 128 + signal if a signal ended it.
    """
    try:
        main()
    except ChildFailedError as error:
        failures = sorted(error.failures.values(), key=lambda failure: failure.timestamp)
        # Code 77 means that a process ended because another one died. That other process's code says more.
        code = next((f.exitcode for f in failures if f.exitcode != 77), failures[0].exitcode)
        print(f'The first process to fail ended with {code}.\n{error}', flush=True)
        raise SystemExit(code if code > 0 else 128 - code) from None


if __name__ == '__main__':
    run()
