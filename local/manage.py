"""`python -m local.manage COMMAND …`, behind `make manage`: a management command on what `make run` runs.

`var/dev.env` tells where the servers are; the secrets of the control plane lie beside it. The private sealing keys stay
where they are: no management command opens a provider key.
"""

import os
import sys
from pathlib import Path
from typing import Final

from local.evaluation import DEV_ENV, Var

CHECKOUT: Final = Path(__file__).resolve().parent.parent
_SERVERS: Final = ("DATABASE_URL", "REDIS_URL", "GATEWAY_MODE")
_SECRETS: Final = ("SECRET_KEY", "DOCUMENT_KEYS", "SEALING_PUBLIC_KEY")


def environment_of(var: Var) -> dict[str, str]:
    """What a control-plane process of the last run was started with, as far as a management command needs it.

    Raises:
        FileNotFoundError: there was no run yet.
    """
    told = var.read_dev_env()
    if var.is_new or not told:
        raise FileNotFoundError(var.path / DEV_ENV)
    secrets = var.secrets({})
    return {name: told[name] for name in _SERVERS} | {name: secrets[name] for name in _SECRETS}


def main() -> None:
    """Become `manage.py` with the arguments of this command."""
    try:
        environ = environment_of(Var(CHECKOUT / "var"))
    except FileNotFoundError:
        sys.exit("There is nothing to manage yet: start `make run` in another terminal first.")
    command = [sys.executable, str(CHECKOUT / "manage.py"), *sys.argv[1:]]
    os.execve(sys.executable, command, os.environ | environ)  # noqa: S606 -- our own manage.py, without a shell


if __name__ == "__main__":
    main()
