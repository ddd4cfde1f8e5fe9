"""`python -m data_plane`: what an operator types."""

import os
from typing import Annotated

import typer

from data_plane import logs, server
from data_plane.settings import load
from gateway_core import authentication, sealing
from gateway_core.environment import EnvironmentIncomplete

app = typer.Typer(
    help="The gateway's data plane: authorises, routes and forwards requests by what Redis tells it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def serve() -> None:
    """Run one worker process, until SIGTERM or Ctrl-C.

    Settings come from the environment, each NAME also as NAME_FILE. Needed: REDIS_URL, DOCUMENT_KEYS and
    SEALING_PRIVATE_KEYS. Optional: GATEWAY_MODE, DATA_PLANE_HOST, DATA_PLANE_PORT, CONTROL_PLANE_PORT,
    REDIS_NAMESPACE, UPSTREAM_BASE_URLS, UPSTREAM_ALLOWED_NETWORKS, UPSTREAM_ALLOWED_HOSTS, UPSTREAM_DENIED_PORTS,
    LOG_LEVEL, USAGE_SPOOL, and in seconds SNAPSHOT_STALENESS and DRAIN_TIMEOUT.
    """
    try:
        settings = load(os.environ)
    except EnvironmentIncomplete as fault:
        typer.echo(str(fault), err=True)
        raise typer.Exit(2) from None
    logs.configure(is_json=not settings.is_evaluation, level=settings.log_level)
    server.serve(settings)


@app.command()
def keygen(
    *,
    no_document_key: Annotated[
        bool, typer.Option("--no-document-key", help="Make only a pair of sealing keys, to move sealed values to.")
    ] = False,
) -> None:
    """Print new keys as NAME=value lines.

    SEALING_PRIVATE_KEYS belongs to the data plane alone, SEALING_PUBLIC_KEY to the control plane, DOCUMENT_KEYS to
    both.
    """
    private = sealing.generate_private_key()
    typer.echo(f"SEALING_PRIVATE_KEYS={private}")
    typer.echo(f"SEALING_PUBLIC_KEY={sealing.public_key_of(private)}")
    if not no_document_key:
        typer.echo(f"DOCUMENT_KEYS={authentication.generate_document_key()}")


if __name__ == "__main__":
    app(prog_name="python -m data_plane")
