"""Exit codes of a training process, for the scripts that start it.

torchrun itself hides these codes: it exits with 1 if any of its processes exits with another code than 0. Scripts that
call torchrun can read the code in its report of the first failure (``exitcode : 75``) or in the last lines of the log.
``tools/dist_train.sh`` exits with the code of the process that failed first.
"""

#: The run cannot start on these machines: torch cannot use a GPU, or processes do not find each other or differ in
#: their settings. The last line says which. ``EX_UNAVAILABLE`` of sysexits.h.
CANNOT_START = 69

#: Stopped by a signal after everything was saved; the same command with ``--resume auto`` continues. ``EX_TEMPFAIL`` of
#: sysexits.h.
SAVED = 75

#: The watchdog ended a process that had made no progress for too long. It names what the process waited for.
HUNG = 76

#: The process ended because another one of the run has died. Look at the others for the reason.
PEER_DIED = 77


class CannotStart(RuntimeError):
    """The run cannot start on these machines. The message says why and what to do; no traceback is printed."""
