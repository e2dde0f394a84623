"""What the exit code of a training process says, for the scripts that start it.

A bare torchrun hands none of them on: it ends with 1 when one of its processes ends with anything but 0. A supervisor
looks at the processes' own lines then (``exitcode : 75`` in torchrun's report of the first failure), or at the last
lines of the log. ``tools/dist_train.sh`` ends with the code of the process that failed first.
"""

#: The machines cannot run it as they are: a GPU that torch cannot use, processes that do not find each other or do not
#: fit together. One sentence says which. ``EX_UNAVAILABLE`` of sysexits.h.
CANNOT_START = 69

#: Stopped by a signal after everything was saved; the same command with ``--resume auto`` continues. ``EX_TEMPFAIL`` of
#: sysexits.h.
SAVED = 75

#: The watchdog ended a process that had made no progress for too long. It names what the process waited for.
HUNG = 76

#: The process ended because another one of the run has died. Look at the others for the reason.
PEER_DIED = 77


class CannotStart(RuntimeError):
    """The machines cannot run this as they are; its message is all that the user needs, with no traceback."""
