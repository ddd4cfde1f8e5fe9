"""The user that an embedded server runs as, and the directories and programs that this user can reach.

No server runs as root. Where we are root, the servers run as `postgres` or `nobody`, and that user must be able to
reach its files. A home that it cannot reach is moved to a directory under /var/tmp, named after the wanted path so that
the next start finds it again. A program that it cannot execute is copied into the home. The mode of a directory above a
home is never changed.
"""

import hashlib
import os
import pwd
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

REACHABLE_BY_ALL: Final = Path("/var/tmp")  # noqa: S108 - what is made there is 0700, and its owner is checked
USERS: Final = ("postgres", "nobody")
# The home belongs to us. The server's user can pass through it to the data, which it owns (0700), and can write nothing
# else.
HOME_MODE_AS_ROOT: Final = 0o711
# The whole environment of a server, so that it gets no variable of ours.
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


class ServerFailed(RuntimeError):
    """An embedded server did not start, or its directory cannot be used."""


def server_user(home: Path | None = None) -> pwd.struct_passwd | None:
    """The user that a server runs as; None where we are not root, since it then runs as the present user.

    Existing data keep their owner, so that a system user who is added later changes nothing. If root owns the data, the
    preparation of the server gives them to the user.
    """
    if os.geteuid() != 0:
        return None
    if home is not None and (home / "data").is_dir() and (owner := (home / "data").stat().st_uid) != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            raise ServerFailed(f"{home}/data belongs to user {owner}, and this system has no such user") from None
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerFailed(
        f"no server here runs as root, and this system has none of the users {', '.join(USERS)}; "
        "run as another user, or set DATABASE_URL and REDIS_URL"
    )


def is_reachable(directory: Path, user: pwd.struct_passwd | None) -> bool:
    """Whether the user may pass through this directory and all above it. None (the present user) always may."""
    if user is None:
        return True
    for folder in (directory, *directory.parents):
        found = folder.stat()
        if found.st_uid == user.pw_uid:
            needed = stat.S_IXUSR
        elif found.st_gid == user.pw_gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not found.st_mode & needed:
            return False
    return True


def existing(directory: Path) -> Path:
    """The directory, or the nearest one above it that exists."""
    return directory if directory.exists() else existing(directory.parent)


def refuge(wanted: Path) -> Path:
    """The path for a home that the server's user cannot reach in its wanted place. It is the same at every start."""
    name = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
    return REACHABLE_BY_ALL / f"gateway-admin-{name}"


def set_aside(home: Path) -> Path | None:
    """Move away a home under /var/tmp whose checkout has lost its own files.

    The home still has its password, but the keys to its data were in the checkout.

    Returns:
        The new path; None if there was no such home.
    """
    left = refuge(home)
    if not left.is_dir() or left.is_symlink():
        return None
    aside = left.with_name(f"{left.name}-{int(time.time())}")
    left.rename(aside)
    return aside


def check_owner(home: Path, user: pwd.struct_passwd | None) -> None:
    """Refuse a home that another user made or can write to, because any user can make a name under /var/tmp first.

    Raises:
        ServerFailed: the owner or the mode is wrong. The message names both.
    """
    found = home.stat()
    if found.st_uid not in {os.geteuid(), user.pw_uid if user else os.geteuid()} or found.st_mode & 0o022:
        raise ServerFailed(
            f"{home} should belong to the user who runs this, and nobody else may write there; it belongs to "
            f"user {found.st_uid} and has mode {stat.S_IMODE(found.st_mode):04o}"
        )


def run_as(user: pwd.struct_passwd | None, command: Sequence[str | Path], *, text: str = "") -> str:
    """Run a program of a server to its end as this user, and return its output.

    Raises:
        ServerFailed: it ended with a status other than 0.
        OSError: the user cannot execute it.
    """
    done = subprocess.run(  # noqa: S603 - our own command
        command,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        env=ENVIRONMENT,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
        start_new_session=True,
    )
    if done.returncode != 0:
        raise ServerFailed(f"{Path(command[0]).name} failed (status {done.returncode}):\n{done.stdout}")
    return done.stdout


def can_execute(user: pwd.struct_passwd | None, program: Path) -> bool:
    """Whether this user can start the program, its libraries included."""
    if user is None:
        return True
    try:
        run_as(user, [program, "--version"])
    except (OSError, ServerFailed):
        return False
    return True
