"""`python -m local.manage COMMAND …`, behind `make manage`: a management command for the gateway of `make run`.

`var/dev.env` has the addresses of the servers, and the secrets of the control plane are beside it. The command does not
get the private sealing keys, because no management command opens a provider key.
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
    """The environment of a control-plane process of the last run, as far as a management command needs it.

    Raises:
        FileNotFoundError: no run has been made yet.
    """
    values = var.read_dev_env()
    if var.is_new or not values:
        raise FileNotFoundError(var.path / DEV_ENV)
    secrets = var.secrets({})
    return {name: values[name] for name in _SERVERS} | {name: secrets[name] for name in _SECRETS}


def main() -> None:
    """Replace this process by `manage.py` with the same arguments."""
    try:
        environ = environment_of(Var(CHECKOUT / "var"))
    except FileNotFoundError:
        sys.exit("There is nothing to manage yet: start `make run` in another terminal first.")
    command = [sys.executable, str(CHECKOUT / "manage.py"), *sys.argv[1:]]
    os.execve(sys.executable, command, os.environ | environ)  # noqa: S606 -- our own manage.py, without a shell


if __name__ == "__main__":
    main()
