"""Becomes another program, as another user, and lets the kernel end it when the parent dies.

It is run by path with `-I -S` and never imported. It is a process of its own, because these steps between fork and exec
are not safe in a parent with threads. Linux can end a child when its parent dies, even by SIGKILL. On other systems the
next start on the same home ends a server whose parent was killed. The kernel watches the *thread* that started us, and
drops the setting at a change of user, so the order of the steps matters.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def launch(parent: int, end_signal: int, uid: int, gid: int, program: list[str]) -> None:
    """Become the program.

    Args:
        parent: the process that started us. If it is no longer our parent, it died before the setting, and we end too.
        end_signal: the signal for the program when the parent dies.
        uid: the user to become; -1 keeps the present user.
        gid: the user's group.
        program: its path and arguments.
    """
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, end_signal, 0, 0, 0)
    if os.getppid() == parent:
        os.execv(program[0], program)  # noqa: S606 - no shell is what we want


if __name__ == "__main__":
    _parent, _signal, _uid, _gid = map(int, sys.argv[1:5])
    launch(_parent, _signal, _uid, _gid, sys.argv[5:])
