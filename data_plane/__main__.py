"""`python -m data_plane`: what an operator types."""

import os
import sys
from typing import Annotated

import typer

from data_plane import logs
from data_plane.http import server
from data_plane.settings import load, load_keyring
from gateway_core import envelopes, resealing, sealing
from gateway_core.environment import EnvironmentIncomplete

app = typer.Typer(
    help="The gateway's data plane: authorises, routes and forwards requests by what Redis holds.",
    no_args_is_help=True,
    # Joins the lines of a paragraph, whatever the terminal's width.
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def serve() -> None:
    """Run one worker process, until SIGTERM or Ctrl-C.

    Settings come from the environment, each NAME also as NAME_FILE. Needed: REDIS_URL, DOCUMENT_KEYS and
    SEALING_PRIVATE_KEYS. Optional: GATEWAY_MODE, DATA_PLANE_HOST, DATA_PLANE_PORT, CONTROL_PLANE_PORT,
    REDIS_NAMESPACE, UPSTREAM_BASE_URLS, UPSTREAM_ALLOWED_NETWORKS, UPSTREAM_ALLOWED_HOSTS, UPSTREAM_DENIED_PORTS,
    LOG_LEVEL, USAGE_SPOOL, SNAPSHOT_DIRECTORY, and in seconds SNAPSHOT_STALENESS, LOADING_SPREAD and DRAIN_TIMEOUT.
    Bounds: CONNECTIONS, CONNECTIONS_PER_ADDRESS, REQUEST_HEAD_BYTES, REQUEST_HEADERS, UPSTREAM_INTERIM_ANSWERS,
    DNS_LOOKUPS_PER_ACCOUNT, DNS_SERVERS, and in seconds REQUEST_HEAD_TIMEOUT, REQUEST_BODY_TIMEOUT, KEEPALIVE_TIMEOUT,
    UNREAD_ANSWER_TIMEOUT, DNS_TIMEOUT, DNS_KEPT, DNS_FAILURES_KEPT. Of requests: REQUEST_MODELS, REQUEST_MEMBERS,
    REQUEST_ATTEMPTS, REQUEST_UPSTREAM_BYTES, REQUESTS_IN_FLIGHT and BODY_BYTES_IN_FLIGHT, both also with _PER_ACCOUNT
    and _PER_KEY, STEP_WARNING in seconds. Of limits: LIMITS_WITHOUT_REDIS,
    LIMITS_OUTPUT_TOKENS, and LIMITS_QUEUE in seconds.
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
        typer.echo(f"DOCUMENT_KEYS={envelopes.generate_document_key()}")


@app.command()
def reseal() -> None:
    """Seal values again, from `export_sealed` on standard input, for `import_sealed` on standard output.

    Needs SEALING_PRIVATE_KEYS (or SEALING_PRIVATE_KEYS_FILE) with the keys that the values are sealed to and the new
    one, and nothing else. No value in clear leaves this process. Exit status 1: some values did not open and were left
    out, or the input was cut off; standard error says which. Then nothing is lost, and all of it may be run again.
    """
    refused = 0

    def refuse(value: resealing.SealedValue, reason: str) -> None:
        nonlocal refused
        refused += 1
        typer.echo(f"reseal: {value.account} {value.provider} {value.key}: {reason}", err=True)

    count = 0
    output = sys.stdout.buffer
    try:
        keyring = load_keyring(os.environ)
        lines = iter(lambda: sys.stdin.buffer.readline(resealing.MAX_LINE + 1), b"")
        heading, values = resealing.read(lines)
        output.write(resealing.encode(heading))
        for value in resealing.reseal(heading, values, keyring, refuse=refuse):
            output.write(resealing.encode(value))
            count += 1
    except EnvironmentIncomplete as fault:
        typer.echo(str(fault), err=True)
        raise typer.Exit(2) from None
    except resealing.StreamRefused as refusal:
        typer.echo(f"reseal: {refusal}", err=True)
        raise typer.Exit(1) from None
    output.write(resealing.encode(resealing.Ending(count)))
    output.flush()
    typer.echo(f"reseal: {count} values sealed to {heading.sealing_key}, {refused} left out.", err=True)
    if refused:
        raise typer.Exit(1)


def main() -> None:
    """Do what the command line says."""
    if sys.argv[1:] != ["serve"]:
        app()
        return
    # To read options typer loads pydantic, which a worker would keep in its memory for as long as it runs.
    try:
        serve()
    except typer.Exit as ending:
        sys.exit(ending.exit_code)


if __name__ == "__main__":
    main()
