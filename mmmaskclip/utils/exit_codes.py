"""What the exit code of a training process says, for the scripts that start it."""

DONE = 0

#: Stopped by a signal after everything was saved: the same command with ``--resume auto`` goes on. ``EX_TEMPFAIL`` of
#: sysexits.h. torchrun does not hand it on: it ends with 1 when one of its processes ends with anything but 0.
SAVED = 75

#: The watchdog ended a process that had made no progress for too long; it names what the process waited for.
HUNG = 76
