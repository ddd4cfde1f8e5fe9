"""`python -m local.demo`, behind `make demo`: the README's walk, done automatically, with each step shown.

It runs the whole gateway as `make run` does, in a temporary directory and on free ports, with a stand-in upstream in
place of OpenAI. So it costs nothing, needs no account, and does not disturb another run.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer

from local.embedded.server import LOOPBACK, free_port
from local.evaluation import Var

# Seconds. Longer than every start: the run itself gives up earlier.
_START_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 30.0
# Settings that a developer's shell may hold. The demo does not use them.
_FOREIGN: Final = (
    "CONTROL_PLANE_URL",
    "DATA_PLANE_URL",
    "DATABASE_URL",
    "REDIS_URL",
    "UPSTREAM_BASE_URLS",
    "SECRET_KEY",
    "DOCUMENT_KEYS",
    "SEALING_PRIVATE_KEYS",
    "SEALING_PUBLIC_KEY",
)


class DemoFailed(RuntimeError):
    """A step did not answer as expected; the message names the step."""


class Answer(NamedTuple):
    """The answer of a plane: status, headers and body."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Plane:
    """A client of one plane, which sends requests as curl would."""

    def __init__(self, name: str, port: int, token: str) -> None:
        self.name = name
        self._port = port
        self._token = token

    def __call__(self, method: str, path: str, body: Any = None, *, expect: int) -> Answer:
        """Make a request, and show it with its answer.

        Args:
            method: GET, POST or DELETE.
            path: from the root.
            body: sent as JSON.
            expect: the status that the walk needs to go on.
        """
        typer.echo(f"  {method} {path}   ({self.name})")
        if body is not None:
            typer.echo(f"    {json.dumps(body)}")
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        is_json = (response.getheader("content-type") or "").startswith("application/json")
        answer = Answer(response.status, dict(response.getheaders()), json.loads(text) if text and is_json else text)
        _show(answer)
        if answer.status != expect:
            raise DemoFailed(f"{method} {path} answered {answer.status}, not {expect}.")
        return answer


def _show(answer: Answer) -> None:
    headers = [f"{name}: {value}" for name, value in answer.headers.items() if name.startswith("gateway-")]
    typer.echo("    → " + ", ".join([str(answer.status), *headers]))
    if isinstance(answer.body, dict):
        shown = {name: value for name, value in answer.body.items() if name not in _TOLD_ELSEWHERE}
        typer.echo(f"      {json.dumps(shown)}")
    elif answer.body:
        typer.echo("\n".join(f"      {line}" for line in str(answer.body).splitlines() if line))


# Fields that are the same on every object, so the demo leaves them out.
_TOLD_ELSEWHERE: Final = {"createdAt", "updatedAt", "createdBy", "lastUpdatedBy", "uri"}


def walk(control_plane: Plane, data_plane_port: int) -> None:
    """From a provider key to a routed request, a failover, a rotation and a revocation."""
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello?"}]}
    _step("Store the key that the upstream gave you. It is sealed at once; only its mask is ever shown again.")
    first = control_plane(
        "POST",
        "/provider-keys",
        {"providerId": "openai", "name": "team key", "value": "sk-demo-0123456789abcdefghijklmnop"},
        expect=201,
    ).body
    _step("Say what apps may reach, and whose keys are used in which order. A spare key is stored along the way.")
    keys = [{"id": first["id"]}, {"name": "spare key", "value": "sk-spare-0123456789abcdefghijklmn"}]
    configuration = control_plane(
        "POST",
        "/access-key-configurations",
        {
            "name": "chat",
            "access": {"models": {"allow": ["openai:gpt-4o"]}},
            "router": {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": keys}]}]},
        },
        expect=201,
    ).body
    _step("Issue an access key for an app. Its token is in this answer and nowhere else.")
    access_key = control_plane(
        "POST", "/access-keys", {"name": "my app", "accessKeyConfigurationId": configuration["id"]}, expect=201
    ).body
    app = Plane("data plane", data_plane_port, access_key["token"])
    _step("The app asks. It holds the access key alone.")
    app("POST", "/v1/chat/completions", ask, expect=200)
    _step("The same as a stream.")
    app("POST", "/v1/chat/completions", {**ask, "stream": True}, expect=200)
    _step("What is not allowed is refused, and the answer says why.")
    app("POST", "/v1/chat/completions", {**ask, "model": "o3"}, expect=404)
    _step("Rotate: a new value under the same ID. This one the upstream refuses (401), so the spare key answers.")
    control_plane(
        "POST",
        f"/provider-keys/{first['id']}/rotate",
        {"name": "team key", "value": "sk-demo-401-abcdefghijklmnopqrstuv"},
        expect=200,
    )
    app("POST", "/v1/chat/completions", ask, expect=200)
    _step("Delete the access key. When that has answered, it is over.")
    control_plane("DELETE", f"/access-keys/{access_key['id']}", expect=204)
    app("POST", "/v1/chat/completions", ask, expect=401)


def _step(text: str) -> None:
    typer.echo(f"\n{text}")


@contextmanager
def _started(command: list[str], environ: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 -- our own modules
            [sys.executable, *command], env=dict(environ), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_it_runs(gateway: subprocess.Popen[bytes], log: Path) -> None:
    """Show each line of the start up to `make run`'s last one. Then both planes are ready and dev.env is written."""
    until = time.monotonic() + _START_SECONDS
    shown = 0
    while True:
        said = log.read_text(errors="replace")
        steps = said.partition("\nThe gateway runs.")[0].splitlines()
        for step in steps[shown:]:
            typer.echo(f"  {step}")
        shown = len(steps)
        if "Ctrl-C ends everything." in said:
            return
        if gateway.poll() is not None:
            raise DemoFailed("The gateway did not start.\n" + said)
        if time.monotonic() > until:
            raise DemoFailed(f"The gateway did not start within {_START_SECONDS:g} s.\n{said}")
        time.sleep(0.1)


def main() -> None:
    """Walk from a provider key to a routed request against a stand-in upstream, and show each step."""
    control_plane, data_plane = free_port(), free_port()
    environ = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in _FOREIGN} | {
        "GATEWAY_MODE": "evaluation",
        "CONTROL_PLANE_PORT": str(control_plane),
        "DATA_PLANE_PORT": str(data_plane),
    }
    typer.echo("Starting a gateway of its own for this walk; it ends with it.")
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as home:
        directory = Path(home)
        directory.chmod(0o711)  # the servers' own user passes through
        var, log = directory / "var", directory / "run.log"
        try:
            with _started(["-m", "local.run", "--stand-in", "--var", str(var)], environ, log) as gateway:
                _wait_until_it_runs(gateway, log)
                walk(Plane("control plane", control_plane, Var(var).read_dev_env()["AI_GATEWAY_API_KEY"]), data_plane)
        except DemoFailed as failure:
            typer.echo(f"\n{failure}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
    typer.echo("\nThat was all of it. Next: `make try`, and the same by hand; or `make run`, and a key of your own.")


if __name__ == "__main__":
    typer.run(main)
