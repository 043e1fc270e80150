"""Child processes that end with the process that started them, however that one ends.

Run as a script, this file is a child's first moment: it asks the system to kill it when its parent ends, and becomes the
command it was given. It imports nothing but the standard library, so that any environment's Python can run it.
"""

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

PR_SET_PDEATHSIG, SIGKILL = 1, 9


def bound(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` (a Python and its arguments) and ends with this process.

    A parent that is killed cannot end its children itself, and one that goes on would be measured beside the next run. The
    system's signal reaches a stopped child too. It is sent when the *thread* ends that started the child, so start children
    from a thread that outlives them.
    """
    return [command[0], "-I", "-S", __file__, str(os.getpid()), *command]


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Children that are started here inherit `variables`; afterwards this process's environment is as it was.

    Libraries that start the children leave variables of their own in it, which go too.
    """
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def _become(parent: str, command: Sequence[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)  # stays in force across exec
    if os.getppid() != int(parent):  # it ended before the signal was asked for
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    _become(sys.argv[1], sys.argv[2:])
