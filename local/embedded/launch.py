"""Turns into another program, as another user, that the kernel ends when the parent dies.

Run by path with `-I -S`, never imported: a process of its own, because what must happen between fork and exec is not
safe in a parent with threads. Linux can end a child with its parent, SIGKILL included; elsewhere a server whose parent
was killed is ended by the next start on its home. The kernel watches the *thread* that started us, and forgets the
setting at a change of user: hence the order here.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def launch(parent: int, end_signal: int, uid: int, gid: int, program: list[str]) -> None:
    """Become the program.

    Args:
        parent: who started us; if it is no longer our parent, it died before the kernel knew, and we end too.
        end_signal: what the program gets when the parent dies.
        uid: whom to become; -1 to stay who we are.
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
