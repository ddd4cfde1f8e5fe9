"""Holds: deploy

docs/deploy.md, walked: secrets and settings as files, each unit's own command, nginx with TLS, sign-in, a request.
"""

import json
import os
import random
import re
import shlex
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPSConnection
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.databases import create_database
from tests.gateway_run import stand_in
from tests.patience import PATIENCE, stretched, wait_until
from tests.servers import FaultyRedis

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
ADMIN, GATEWAY = "admin.example.com", "gateway.example.com"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


def lines_of(unit: Path) -> list[tuple[str, str]]:
    """The (name, value) lines of a unit's `[Service]`."""
    _, _, section = unit.read_text().partition("[Service]\n")
    lines = section.partition("\n[")[0].splitlines()
    return [(name, value) for name, _, value in (line.partition("=") for line in lines if line[:1].isalpha())]


class Machine:
    """A folder in the place of the machine's `/etc`, `/opt` and `/var/lib`, with ports of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.etc, self.opt = home / "etc", home / "opt"
        self.opt.symlink_to(ROOT)
        self.etc.mkdir()
        # They are free for many seconds before somebody listens, so they are none that a connection is given.
        first = random.randrange(20_000, 30_000, 3)
        self.ports = {"8000": str(first), "8001": str(first + 1), "443": str(first + 2)}

    def put(self, text: str) -> str:
        """A text of `deploy/` with this machine's paths."""
        return text.replace("/etc/gateway-admin", str(self.etc)).replace("/opt/gateway-admin", str(self.opt))

    def run(self, script: str, *arguments: str, given: str = "") -> str:
        """Run a script of `deploy/`; what it wrote."""
        own = self.home / script
        own.write_text(self.put((DEPLOY / script).read_text()))
        own.chmod(0o700)
        environ = {"PATH": os.environ["PATH"]}
        done = subprocess.run([own, *arguments], env=environ, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, unit: Path) -> "subprocess.Popen[bytes]":
        """Run a unit's command, with the environment and the credentials that its lines name and no others."""
        expand = {"%i": self.ports["8001"], "%S": str(self.home / "state"), "%d": str(self.etc / "secrets")}
        environ = {"PATH": os.environ["PATH"]}
        command = ""
        for name, written in lines_of(unit):
            value = self.put(re.sub("%[iSd]", lambda found: expand[found[0]], written))
            if name == "ExecStart":
                command = value.replace("--port 8000", f"--port {self.ports['8000']}")
            elif name == "Environment":
                environ |= dict([value.split("=", 1)])
            elif name == "EnvironmentFile":
                environ |= dict(line.split("=", 1) for line in Path(value).read_text().split())
            elif name == "LoadCredential":
                assert Path(value.partition(":")[2]).stat().st_size > 0
            elif name == "StateDirectory":
                (self.home / "state" / value).mkdir(parents=True, exist_ok=True)
        log = (self.home / f"{unit.stem}.log").open("wb")
        with log:
            return subprocess.Popen(shlex.split(command), cwd=self.opt, env=environ, stdout=log, stderr=log)

    def show_logs(self) -> None:
        """Print how each log ends, for a test that fails."""
        for log in self.home.glob("*.log"):
            print(f"── {log.name}\n{log.read_text()[-2000:]}")

    @contextmanager
    def nginx(self) -> Iterator[None]:
        """nginx with `deploy/nginx.conf` and a certificate that nobody signed."""
        (self.etc / "tls").mkdir()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={ADMIN}",
             "-keyout", self.etc / "tls/key.pem", "-out", self.etc / "tls/certificate.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        text = self.put((DEPLOY / "nginx.conf").read_text()).replace("  server 127.0.0.1:8002 max_fails=0;\n", "")
        for port, free in self.ports.items():
            text = re.sub(rf"(127\.0\.0\.1:|listen ){port}\b", rf"\g<1>{free}", text)
        own = self.home / "nginx.conf"
        own.write_text(
            f"daemon off; pid {self.home}/nginx.pid; error_log {self.home}/nginx.log;\nevents {{}}\n"
            f"http {{ access_log off; client_body_temp_path {self.home}/body; proxy_temp_path {self.home}/proxy;\n"
            f"{text}}}\n"
        )
        with subprocess.Popen([str(NGINX), "-p", str(self.home), "-c", str(own)], stderr=subprocess.DEVNULL) as process:
            try:
                yield
            finally:
                process.terminate()

    def ask(
        self, name: str, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any, bytes]:
        """Send a request through nginx to one of the two names: (status, headers, body)."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection("127.0.0.1", int(self.ports["443"]), timeout=stretched(PATIENCE), context=context)
        try:
            sent = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, path, body, {"host": name, **sent})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def is_ready(self, name: str, path: str) -> bool:
        """Whether a path answers 200."""
        try:
            return self.ask(name, "GET", path)[0] == 200
        except OSError:
            return False


@pytest.mark.full
@pytest.mark.xdist_group("run")
@pytest.mark.skipif(NGINX is None, reason="there is no nginx on this machine")
def test_a_deployment_made_by_the_page_lets_people_in_and_routes_requests(tmp_path: Path):
    machine = Machine(tmp_path)
    with ExitStack() as running:
        server = running.enter_context(FaultyRedis(throwaway=True))
        origin = running.enter_context(stand_in())
        database = create_database(os.environ["DATABASE_URL"], template=None)
        machine.run("secrets", given=f"{database}\n{server.url}\n")
        assert {one.name for one in (machine.etc / "secrets").iterdir()} == {
            "DATABASE_URL", "DOCUMENT_KEYS", "REDIS_URL", "SEALING_PRIVATE_KEYS", "SEALING_PUBLIC_KEY", "SECRET_KEY"
        }  # fmt: skip
        assert {one.stat().st_mode & 0o777 for one in (machine.etc / "secrets").iterdir()} == {0o600}
        (machine.etc / "settings").write_text(
            f"GATEWAY_MODE=production\nALLOWED_HOSTS={ADMIN}\nTRUSTED_PROXIES=127.0.0.1\n"
            f"DATA_PLANE_URL=https://{GATEWAY}\nUPSTREAM_DENIED_PORTS={machine.ports['8001']}\n"
            f"UPSTREAM_BASE_URLS=openai={origin}/v1\n"
        )
        machine.run("manage", "migrate", "-v0")
        first = dict(line.split("=", 1) for line in machine.run("manage", "bootstrap").split())
        running.callback(machine.show_logs)
        for unit in UNITS:
            process = machine.start(unit)
            running.callback(process.wait, stretched(PATIENCE))
            running.callback(process.terminate)
        running.enter_context(machine.nginx())
        wait_until(lambda: machine.is_ready(ADMIN, "/readyz"), what="the control plane is ready")

        status, headers, _ = machine.ask(ADMIN, "GET", "/dashboard/login")
        cookies = SimpleCookie(headers["set-cookie"])
        token = cookies["__Host-csrf"].value
        form = {"login": first["DASHBOARD_USER"], "password": first["DASHBOARD_PASSWORD"], "csrfmiddlewaretoken": token}
        signed_in, headers, page = machine.ask(
            ADMIN, "POST", "/dashboard/login", urlencode(form).encode(),
            cookie=f"__Host-csrf={token}", origin=f"https://{ADMIN}", content_type="application/x-www-form-urlencoded",
        )  # fmt: skip
        assert (status, signed_in) == (200, 302), page
        assert any(one.startswith("__Host-session=") for one in headers.get_all("set-cookie"))

        api: dict[str, Any] = {
            "authorization": f"Bearer {first['AI_GATEWAY_API_KEY']}",
            "content_type": "application/json",
        }
        value = json.dumps({"providerId": "openai", "name": "team", "value": "sk-demo-0123456789abcdefghij"}).encode()
        assert machine.ask(ADMIN, "POST", "/provider-keys", value, **api)[0] == 201
        status, headers, body = machine.ask(ADMIN, "POST", "/access-keys", b'{"name": "app"}', **api)
        key = json.loads(body)
        assert (status, key["uri"]) == (201, f"https://{ADMIN}/access-keys/{key['id']}")
        chat = {"model": "openai:gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
        app: dict[str, Any] = {"authorization": f"Bearer {key['token']}", "content_type": "application/json"}
        wait_until(
            lambda: machine.ask(GATEWAY, "POST", "/v1/chat/completions", json.dumps(chat).encode(), **app)[0] == 200,
            what="a request is routed",
        )
        usage = "/usage?startTime=2020-01-01T00:00:00Z"
        wait_until(lambda: json.loads(machine.ask(ADMIN, "GET", usage, **api)[2])["aiGatewayUsage"], what="its usage")
        for name, path in ((ADMIN, "/metrics"), (GATEWAY, "/metrics"), (GATEWAY, "/readyz")):
            assert machine.ask(name, "GET", path)[0] == 404


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_only_workers_get_the_private_sealing_keys_and_every_credential_is_a_file(unit: Path):
    lines = lines_of(unit)
    credentials = [value.partition(":")[0] for name, value in lines if name == "LoadCredential"]

    assert ("SEALING_PRIVATE_KEYS" in credentials) == unit.name.startswith("gateway-worker@")
    assert [
        value for name, value in lines if name == "Environment" and value.endswith("%d/" + value.split("_FILE=")[0])
    ]
    assert {f"{one}_FILE=%d/{one}" for one in credentials} <= {value for name, value in lines if name == "Environment"}
    assert dict(lines)["User"].startswith("gateway-")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze on this machine")
def test_systemd_understands_each_unit(tmp_path: Path):
    named = [tmp_path / unit.name.replace("@", "@8001") for unit in UNITS]
    for unit, own in zip(UNITS, named, strict=True):
        own.write_text(unit.read_text().replace("/opt/gateway-admin/.venv/bin/python", "/bin/true"))

    done = subprocess.run(["systemd-analyze", "verify", *named], capture_output=True, text=True, check=False)

    said = [
        line for line in done.stderr.splitlines() if str(tmp_path) in line or any(one.name in line for one in named)
    ]
    assert said == []
