"""The files of a run under `var/`: the lock, the generated secrets, and dev.env.

Other users cannot open the directory. As root its mode is 0711, so that PostgreSQL's own user can reach its data
through it but nobody can list it. Each file in it has the mode 0600.
"""

import fcntl
import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway_core.envelopes import generate_document_key
from gateway_core.sealing import generate_private_key, public_key_of
from local.embedded.server import write_private

DEV_ENV: Final = "dev.env"
CREDENTIALS: Final = ("AI_GATEWAY_ACCOUNT_ID", "AI_GATEWAY_API_KEY", "DASHBOARD_USER", "DASHBOARD_PASSWORD")


class AlreadyRunning(RuntimeError):
    """Another run is using this directory."""


class Var:
    """The directory of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.log = self.path / "log"
        self._secrets = self.path / "secrets"

    def open(self) -> None:
        """Make the directory if it does not exist, and hold its lock until this process ends.

        Raises:
            AlreadyRunning: another process holds the lock.
        """
        if not self.path.exists():
            self.path.mkdir(parents=True, mode=0o700)
            if os.geteuid() == 0:
                self.path.chmod(0o711)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 20, 0).decode(errors="replace")
            os.close(self._lock)
            raise AlreadyRunning(f"a run with {self.path} is going on (process {holder}); end it first") from None
        os.ftruncate(self._lock, 0)
        os.write(self._lock, str(os.getpid()).encode())
        self.log.mkdir(mode=0o700, exist_ok=True)

    @property
    def is_new(self) -> bool:
        """Whether no run has stored its secrets here yet."""
        return not self._secrets.exists()

    def secrets(self, given: Mapping[str, str]) -> dict[str, str]:
        """The secrets of the planes: the given ones, else the stored ones, else new ones, which are then stored.

        Args:
            given: the secrets in the environment, by name.

        Returns:
            SECRET_KEY, DOCUMENT_KEYS, SEALING_PRIVATE_KEYS and SEALING_PUBLIC_KEY.
        """
        self._secrets.mkdir(mode=0o700, exist_ok=True)
        found = {
            "SECRET_KEY": given.get("SECRET_KEY") or self._kept("SECRET_KEY") or secrets.token_urlsafe(48),
            "DOCUMENT_KEYS": given.get("DOCUMENT_KEYS") or self._kept("DOCUMENT_KEYS") or generate_document_key(),
            "SEALING_PRIVATE_KEYS": given.get("SEALING_PRIVATE_KEYS")
            or self._kept("SEALING_PRIVATE_KEYS")
            or generate_private_key(),
        }
        for name, value in found.items():
            if not given.get(name) and self._kept(name) != value:
                write_private(self._secrets / name, value)
        newest = found["SEALING_PRIVATE_KEYS"].replace(",", " ").split()[0]
        # A public key without its private half would seal values that no process here can open.
        given_public = given.get("SEALING_PUBLIC_KEY") if given.get("SEALING_PRIVATE_KEYS") else ""
        found["SEALING_PUBLIC_KEY"] = given_public or public_key_of(newest)
        return found

    def read_dev_env(self) -> dict[str, str]:
        """The variables that the last run wrote; empty before the first run."""
        try:
            lines = (self.path / DEV_ENV).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        words = [word for line in lines for word in shlex.split(line) if "=" in word]
        return dict(word.split("=", 1) for word in words)

    def write_dev_env(self, values: Mapping[str, str]) -> None:
        """Replace dev.env atomically, with mode 0600. A shell that sources it exports its variables."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in values.items()]
        write_private(self.path / DEV_ENV, "".join(lines))

    def _kept(self, name: str) -> str:
        try:
            return (self._secrets / name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
