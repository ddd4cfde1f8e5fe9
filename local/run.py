"""`python -m local.run`, behind `make run`: everything on this machine, with one command.

It starts the servers that the environment does not name, migrates, makes an account on the first run, starts the five
processes of the Procfile, and ends all of them together. Django is imported by those processes, never here.

Source: docs/decisions/0040-one-command.md.
"""

import contextlib
import http.client
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway_admin import environment
from local.embedded import PostgresServer, RedisServer, ServerFailed
from local.embedded.server import LOOPBACK, EmbeddedServer, free_port, is_port_free
from local.embedded.unprivileged import set_aside
from local.evaluation import CREDENTIALS, DEV_ENV, AlreadyRunning, Var
from local.supervision import Child, ChildFailed, Signals, StopRequested, Supervisor, ending_everything

CHECKOUT: Final = Path(__file__).resolve().parent.parent
READY_SECONDS: Final = 120.0
# Seconds, less than the supervisor waits. A person who stops a trial does not want to wait for its last streams.
DRAIN_SECONDS: Final = "10"
# Processes that accept work end first, then those that process it. The servers end last.
PHASES: Final = (("control-plane", "beat"), ("data-plane", "worker"), ("relay",))
SEALING_PRIVATE: Final = ("SEALING_PRIVATE_KEYS", "SEALING_PRIVATE_KEYS_FILE")
SECRETS: Final = ("SECRET_KEY", "DOCUMENT_KEYS", "SEALING_PRIVATE_KEYS", "SEALING_PUBLIC_KEY")
CONTROL_PLANE_ONLY: Final = tuple(
    f"{name}{form}" for name in ("DATABASE_URL", "SECRET_KEY", "SEALING_PUBLIC_KEY") for form in ("", "_FILE")
)


class RunRefused(RuntimeError):
    """This run cannot start with this environment or on this machine; the message says what to change."""


@dataclass(frozen=True)
class Ports:
    """The ports of the planes on the loopback address."""

    control_plane: int
    data_plane: int

    @property
    def control_plane_url(self) -> str:
        """The base URL of the management API."""
        return f"http://{LOOPBACK}:{self.control_plane}"

    @property
    def data_plane_url(self) -> str:
        """The base URL of the data plane, without `/v1`."""
        return f"http://{LOOPBACK}:{self.data_plane}"


class Run:
    """One run of the whole gateway, from the start of the servers to their end."""

    def __init__(self, var: Var, environ: Mapping[str, str], *, with_stand_in: bool = False) -> None:
        self.var = var
        self.environ = dict(environ)
        self.stand_in_port = free_port() if with_stand_in else 0
        self.supervisor = Supervisor(Signals(), say)
        self.ports = _ports(self.environ)

    def go(self) -> None:
        """Start everything and stay until a signal comes.

        Raises:
            StopRequested: a signal ended the run. There is no other way to end well.
            RunRefused, ServerFailed, ChildFailed: the run failed.
        """
        with ending_everything(self.supervisor, PHASES):
            is_evaluation = self._settle_servers() == environment.EVALUATION
            if is_evaluation:
                self.environ |= self.var.secrets(
                    {name: environment.read(name, environ=self.environ) for name in SECRETS}
                )
            say("Preparing the database.")
            self.supervisor.run_to_its_end(self._child("migrate", *self._manage("migrate", "--no-input", "-v", "0")))
            credentials = self._credentials() if is_evaluation else {}
            self._start_processes()
            if is_evaluation:
                credentials = self._renew_if_refused(credentials)
                self._write_dev_env(credentials)
            self._report(is_evaluation=is_evaluation)
            self.supervisor.supervise()

    def _settle_servers(self) -> str:
        """Start the servers that the environment does not name, and return the mode.

        A sourced dev.env names the servers of this run. They count as not named.
        """
        embedded: dict[str, EmbeddedServer] = {}
        homes = [self.var.path / name for name in ("postgres", "redis")]
        for home in homes:
            if self.var.is_new and not (home / "data").exists() and (aside := set_aside(home)):
                say(
                    f"The {home.name} data of an earlier run, whose keys are gone with its var/, were moved to {aside}."
                )
        servers: dict[str, EmbeddedServer] = {
            "DATABASE_URL": PostgresServer(homes[0], log=self.var.log / "postgres.log"),
            "REDIS_URL": RedisServer(homes[1], log=self.var.log / "redis.log"),
        }
        for name, server in servers.items():
            url = environment.read(name, environ=self.environ)
            if not url or server.is_named_by(url):
                embedded[name] = server
                self.environ.pop(name, None)
                self.environ.pop(f"{name}_FILE", None)
        mode = environment.mode(self.environ)
        if mode == environment.PRODUCTION and embedded:
            raise RunRefused(
                f"{' and '.join(embedded)} missing: in production mode every server is named. For a trial set "
                "GATEWAY_MODE=evaluation, and what is missing is started here."
            )
        for name, server in embedded.items():
            say(f"Starting {server.name}.")
            self.supervisor.start_server(server)
            self.environ[name] = server.url
        self.environ["GATEWAY_MODE"] = mode
        return mode

    def _start_processes(self) -> None:
        say("Starting the control plane, the data plane, the relay and Celery.")
        for name, command in self._commands().items():
            self.supervisor.start(self._child(name, *command))
        for plane, port in (("control-plane", self.ports.control_plane), ("data-plane", self.ports.data_plane)):
            self.supervisor.wait_until(
                partial(_is_ready, port),
                seconds=READY_SECONDS,
                what=f"{plane} did not answer 200 at http://{LOOPBACK}:{port}/readyz",
                log=self.var.log / f"{plane}.log",
            )

    def _commands(self) -> dict[str, tuple[str, ...]]:
        """The processes of the Procfile by name, with few threads and processes each, for a developer's machine."""
        celery = ("-m", "celery", "-A", "gateway_admin")
        return {
            "control-plane": self._manage("serve", "--host", LOOPBACK, "--port", str(self.ports.control_plane)),
            "data-plane": ("-m", "data_plane", "serve"),
            "relay": self._manage("relay"),
            "worker": (
                *celery,
                "worker",
                "--loglevel",
                "INFO",
                "--concurrency",
                "1",
                "--without-gossip",
                "--without-mingle",
            ),
            "beat": (*celery, "beat", "--loglevel", "INFO", "--schedule", str(self.var.path / "celerybeat-schedule")),
        } | ({"stand-in": ("-m", "local.stand_in", "--port", str(self.stand_in_port))} if self.stand_in_port else {})

    def _child(self, name: str, *arguments: str, captures: bool = False) -> Child:
        """A Python process. Only the data plane gets the private sealing keys, and it gets no settings of Django."""
        withheld = CONTROL_PLANE_ONLY if name == "data-plane" else SEALING_PRIVATE
        environ = {key: value for key, value in self.environ.items() if key not in withheld}
        return Child(
            name=name,
            # Always `-m`: the installed scripts begin with a path that may be too long for the kernel.
            command=(sys.executable, *arguments),
            environ=environ
            | {
                "CONTROL_PLANE_PORT": str(self.ports.control_plane),
                "DATA_PLANE_PORT": str(self.ports.data_plane),
                "DATA_PLANE_HOST": LOOPBACK,
                "DRAIN_TIMEOUT": environ.get("DRAIN_TIMEOUT") or DRAIN_SECONDS,
                "USAGE_SPOOL": environ.get("USAGE_SPOOL") or str(self.var.path / "usage"),
                "SNAPSHOT_DIRECTORY": environ.get("SNAPSHOT_DIRECTORY") or str(self.var.path / "snapshots"),
                "UPSTREAM_BASE_URLS": ",".join(self._base_urls()),
                "UPSTREAM_DENIED_PORTS": ",".join(self._denied_ports()),
                "PYTHONUNBUFFERED": "1",
            },
            log=self.var.log / f"{name}.log",
            directory=CHECKOUT,
            captures=captures,
        )

    def _base_urls(self) -> list[str]:
        """The base URLs of built-in providers in the environment, and the stand-in's for openai."""
        given = list(filter(None, self.environ.get("UPSTREAM_BASE_URLS", "").split(",")))
        return [*given, f"openai=http://{LOOPBACK}:{self.stand_in_port}/v1"] if self.stand_in_port else given

    def _denied_ports(self) -> list[str]:
        """The ports that are never an upstream: those of our own servers, and those in the environment."""
        given = self.environ.get("UPSTREAM_DENIED_PORTS", "").split(",")
        return [
            *filter(None, (port.strip() for port in given)),
            *(str(server.port) for server in self.supervisor.servers),
        ]

    @staticmethod
    def _manage(*arguments: str) -> tuple[str, ...]:
        return (str(CHECKOUT / "manage.py"), *arguments)

    def _credentials(self) -> dict[str, str]:
        """The credentials in dev.env, or those of a new account."""
        kept = self.var.read_dev_env()
        if all(kept.get(name) for name in CREDENTIALS):
            return {name: kept[name] for name in CREDENTIALS}
        return self._bootstrap()

    def _bootstrap(self) -> dict[str, str]:
        say("Making an account, an API key and a dashboard user.")
        written = self.supervisor.run_to_its_end(self._child("bootstrap", *self._manage("bootstrap"), captures=True))
        made = dict(line.split("=", 1) for line in written.splitlines() if "=" in line)
        return {name: made[name] for name in CREDENTIALS}

    def _renew_if_refused(self, credentials: dict[str, str]) -> dict[str, str]:
        """Make new credentials if the control plane refuses these, because dev.env belonged to another database."""
        if _status(self.ports.control_plane, "/api-keys?limit=1", token=credentials["AI_GATEWAY_API_KEY"]) == 401:  # noqa: PLR2004
            return self._bootstrap()
        return credentials

    def _write_dev_env(self, credentials: Mapping[str, str]) -> None:
        self.var.write_dev_env(
            {
                "CONTROL_PLANE_URL": self.ports.control_plane_url,
                "DATA_PLANE_URL": self.ports.data_plane_url,
                "DASHBOARD_URL": f"{self.ports.control_plane_url}/dashboard/",
                **credentials,
                "DATABASE_URL": environment.read("DATABASE_URL", environ=self.environ),
                "REDIS_URL": environment.read("REDIS_URL", environ=self.environ),
                "GATEWAY_MODE": environment.EVALUATION,
            }
        )

    def _report(self, *, is_evaluation: bool) -> None:
        control_plane, data_plane = self.ports.control_plane_url, self.ports.data_plane_url
        dev_env = shlex.quote(_shown(self.var.path / DEV_ENV))
        say("\nThe gateway runs.")
        say(f"  control plane  {control_plane}   (the management API; {control_plane}/docs explains it)")
        say(f"  data plane     {data_plane}   (apps send their requests here)")
        if is_evaluation:
            say(f"  dashboard      {control_plane}/dashboard/   (user and password in {dev_env})")
        for server in self.supervisor.servers:
            say(f"  {server.name:<13}  127.0.0.1:{server.port}   (data in {_shown(server.home)})")
        if self.stand_in_port:
            say(f"  stand-in       {LOOPBACK}:{self.stand_in_port}   (answers in place of OpenAI; takes every key)")
        say(f"  logs           {_shown(self.var.log)}/")
        if is_evaluation:
            command = 'curl -s $CONTROL_PLANE_URL/access-keys -H "Authorization: Bearer $AI_GATEWAY_API_KEY"'
            say(f"\nTry it in another terminal:\n  . {dev_env}\n  {command}")
        say("\nCtrl-C ends everything.")


def say(text: str) -> None:
    """Print a line for the user. A closed terminal is not an error."""
    with contextlib.suppress(OSError):
        typer.echo(text)


def _ports(environ: Mapping[str, str]) -> Ports:
    """The ports of the planes, checked to be free.

    Raises:
        RunRefused: a port is not a number or is taken, or both are the same. The message names every fault.
    """
    found, faults = [], []
    for name, default in (("CONTROL_PLANE_PORT", 8000), ("DATA_PLANE_PORT", 8001)):
        text = environ.get(name) or str(default)
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**16:
            faults.append(f"{name} is a port number from 1 to 65535, not {text!r}.")
            continue
        if not is_port_free(int(text)):
            faults.append(f"port {text} on {LOOPBACK} is taken; set {name} to a free one.")
        found.append(int(text))
    if len(set(found)) < len(found):
        faults.append("CONTROL_PLANE_PORT and DATA_PLANE_PORT are the same; set one of them to another port.")
    if faults:
        raise RunRefused("\n".join(faults))
    return Ports(*found)


def _status(port: int, path: str, *, token: str = "") -> int:
    """The HTTP status of a plane's answer; 0 while it does not answer."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _is_ready(port: int) -> bool:
    return _status(port, "/readyz") == http.HTTPStatus.OK


def _shown(path: Path) -> str:
    """A path, relative to the current directory if it is below it."""
    with contextlib.suppress(ValueError, OSError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def main(
    var: Annotated[
        Path, typer.Option(help="Where data, secrets, logs and dev.env are kept.", show_default="var/ in the checkout")
    ] = CHECKOUT / "var",
    *,
    stand_in: Annotated[
        bool, typer.Option("--stand-in", help="Start a stand-in upstream too, which answers in place of OpenAI.")
    ] = False,
) -> None:
    """Start the whole gateway on this machine: servers, migrations, both planes, relay and Celery.

    PostgreSQL and Redis are started where DATABASE_URL and REDIS_URL do not name any. CONTROL_PLANE_PORT (8000) and
    DATA_PLANE_PORT (8001) choose where the planes listen, on 127.0.0.1 only. Ctrl-C or SIGTERM ends everything.
    """
    directory = Var(var)
    try:
        directory.open()
        Run(directory, os.environ, with_stand_in=stand_in).go()
    except StopRequested:
        say("Everything has ended.")
    except (AlreadyRunning, RunRefused, ServerFailed, ChildFailed, environment.EnvironmentIncomplete) as refusal:
        typer.echo(f"{refusal}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
