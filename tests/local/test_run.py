"""Holds: local.run, README.md

`make run`, as a person uses it: everything real, from an empty directory. The second run is one of `make try`, and the
README's walk is pasted into a shell beside it.
"""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from urllib.parse import urlsplit

import psutil
import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from local.embedded import RedisServer
from local.evaluation import Var
from local.manage import environment_of
from tests.databases import create_database, template_database
from tests.gateway_run import GatewayRun, shell
from tests.patience import PATIENCE, stretched, wait_until
from tests.workers import ROOT

pytestmark = pytest.mark.xdist_group("run")

DEV_ENV = [
    "CONTROL_PLANE_URL",
    "DATA_PLANE_URL",
    "DASHBOARD_URL",
    "AI_GATEWAY_ACCOUNT_ID",
    "AI_GATEWAY_API_KEY",
    "DASHBOARD_USER",
    "DASHBOARD_PASSWORD",
    "DATABASE_URL",
    "REDIS_URL",
    "GATEWAY_MODE",
]


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def refusal(var, **environ):
    """What a run that does not begin says."""
    done = subprocess.run(
        [sys.executable, "-m", "local.run", "--var", str(var)],
        env=shell(**environ),
        capture_output=True,
        text=True,
        timeout=stretched(PATIENCE),
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def first_run(whole_gateway):
    return whole_gateway


@pytest.fixture(scope="module")
def second_run(first_run):
    """The same again after the first has ended, with a stand-in, in a shell that has sourced dev.env."""
    sourced = first_run.dev_env
    before = first_run.tree
    first_run.process.terminate()
    first_run.process.wait(stretched(PATIENCE))
    assert not [pid for pid in before if is_alive(pid)]
    run = GatewayRun(first_run.var, arguments=["--stand-in"], **sourced)
    yield run
    run.close()


def test_dev_env_is_closed_to_others_and_holds_its_lines(first_run):
    file = first_run.var / "dev.env"

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [line.partition("=")[0] for line in file.read_text().splitlines()] == [f"export {name}" for name in DEV_ENV]
    assert all(first_run.dev_env.values())
    assert first_run.dev_env["GATEWAY_MODE"] == "evaluation"


@pytest.mark.parametrize("plane", ["CONTROL_PLANE_URL", "DATA_PLANE_URL"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_both_planes_are_alive_and_ready(first_run, plane, path):
    assert first_run.get(plane, path)[0] == 200


def test_the_curl_command_works_as_pasted(first_run):
    commands = first_run.said.partition("Try it in another terminal:\n")[2].partition("\n\n")[0]

    answer = subprocess.run(["sh", "-c", commands], capture_output=True, text=True, check=True)

    token = first_run.dev_env["AI_GATEWAY_API_KEY"]
    listed = json.loads(first_run.get("CONTROL_PLANE_URL", "/access-keys", token=token)[1])
    assert json.loads(answer.stdout)["aiGatewayAccessKeys"] == listed["aiGatewayAccessKeys"]


def test_a_management_command_finds_what_the_run_runs(first_run):
    environ = environment_of(Var(first_run.var))
    assert "SEALING_PRIVATE_KEYS" not in environ

    done = subprocess.run(
        [sys.executable, "manage.py", "set_managed_key", "openai"],
        env=shell() | environ,
        input="sk-managed-0123456789abcdefghij",
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_no_secret_of_the_run_is_in_its_output_or_logs(first_run):
    written = first_run.said + "".join(file.read_text() for file in (first_run.var / "log").iterdir())
    kept = [file.read_text() for file in (first_run.var / "secrets").iterdir()]
    shown_once = [first_run.dev_env["AI_GATEWAY_API_KEY"], first_run.dev_env["DASHBOARD_PASSWORD"]]
    passwords = [urlsplit(first_run.dev_env[name]).password for name in ("DATABASE_URL", "REDIS_URL")]

    assert not [secret for secret in [*kept, *shown_once, *passwords] if secret in written]


def test_only_the_data_plane_is_given_the_private_sealing_key_and_nothing_of_django(first_run):
    private = (first_run.var / "secrets" / "SEALING_PRIVATE_KEYS").read_text()
    data_plane = first_run.child("data_plane")
    its_own = {data_plane.pid, *(one.pid for one in data_plane.children(recursive=True))}
    environs = {pid: psutil.Process(pid).environ() for pid in first_run.tree[1:] if is_alive(pid)}

    assert {pid for pid, environ in environs.items() if private in environ.values()} <= its_own
    assert private in environs[data_plane.pid].values()
    assert not {"DATABASE_URL", "SECRET_KEY"} & set(environs[data_plane.pid])


def test_every_listener_is_on_the_loopback(first_run):
    listeners = [
        connection.laddr.ip
        for pid in first_run.tree
        if is_alive(pid)
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == "LISTEN"
    ]

    assert len(listeners) >= 4
    assert set(listeners) == {"127.0.0.1"}


def test_a_relay_that_was_killed_comes_back(first_run):
    relay = first_run.child("relay")

    relay.kill()

    first_run.wait_for("relay was ended by SIGKILL")
    supervisor = psutil.Process(first_run.process.pid)
    wait_until(lambda: [one for one in supervisor.children() if "relay" in one.cmdline()], what="another relay")


def test_a_redis_that_was_killed_comes_back_at_its_address(first_run):
    redis = next(
        one for one in psutil.Process(first_run.process.pid).children() if one.name().startswith("valkey-server")
    )

    redis.kill()

    first_run.wait_for("Redis ended; its log")
    with Redis.from_url(first_run.dev_env["REDIS_URL"], retry=Retry(ConstantBackoff(0.5), 60)) as client:
        assert client.ping()
    planes = ("CONTROL_PLANE_URL", "DATA_PLANE_URL")
    wait_until(lambda: {first_run.get(plane, "/readyz")[0] for plane in planes} == {200}, what="both are ready")


def test_a_second_run_at_the_same_time_is_refused_in_one_line(first_run):
    said = refusal(first_run.var)

    assert str(first_run.process.pid) in said
    assert said.count("\n") == 1


def test_another_run_goes_beside_the_first_on_servers_that_its_environment_names(first_run, tmp_path, redis_server):
    ours, redis = os.environ["DATABASE_URL"], redis_server()
    database = create_database(ours, template=template_database(ours))
    run = GatewayRun(tmp_path / "elsewhere", DATABASE_URL=database, REDIS_URL=redis.url, GATEWAY_MODE="evaluation")
    try:
        assert run.dev_env["DATABASE_URL"] == database
        assert not (run.var / "postgres").exists()
        assert run.get("CONTROL_PLANE_URL", "/api-keys", token=run.dev_env["AI_GATEWAY_API_KEY"])[0] == 200
        with Redis.from_url(redis.url) as client:
            assert client.dbsize()
        assert first_run.get("CONTROL_PLANE_URL", "/readyz")[0] == 200
    finally:
        run.close()


def test_the_next_run_finds_its_data_again_even_with_dev_env_sourced(first_run, second_run):
    assert second_run.dev_env["AI_GATEWAY_API_KEY"] == first_run.dev_env["AI_GATEWAY_API_KEY"]
    assert "Starting PostgreSQL." in second_run.said
    assert "Making an account" not in second_run.said
    status, body = second_run.get("CONTROL_PLANE_URL", "/api-keys", token=second_run.dev_env["AI_GATEWAY_API_KEY"])
    assert status == 200
    assert len(json.loads(body)["aiGatewayApiKeys"]) == 1


def test_the_walk_of_the_readme_works_as_one_paste_without_a_key_of_anybodys(second_run):
    section = (ROOT / "README.md").read_text().partition("## From a provider key to a routed request")[2]
    paste = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert paste is not None
    # The checkout as the paste sees it: the var/ of the run, and the Python that `make` puts there.
    checkout = second_run.var.parent
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)

    done = subprocess.run(
        ["sh", "-c", paste[1]],
        cwd=checkout,
        env={name: value for name, value in shell().items() if name != "OPENAI_API_KEY"},
        capture_output=True,
        text=True,
        timeout=stretched(PATIENCE),
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("HTTP/1.1 200 OK"), done.stdout + done.stderr
    assert "gateway-provider: openai" in done.stdout
    assert '"keyRedacted":"sk-demo-01***mnop"' in done.stderr


def test_ctrl_c_ends_every_process_cleanly(second_run):
    tree = second_run.tree

    second_run.process.send_signal(signal.SIGINT)

    assert second_run.process.wait(stretched(PATIENCE)) == 0
    assert not [pid for pid in tree if is_alive(pid)]
    assert "database system is shut down" in (second_run.var / "log" / "postgres.log").read_text()


@pytest.mark.parametrize("name", ["CONTROL_PLANE_PORT", "DATA_PLANE_PORT"])
def test_a_taken_port_is_refused_naming_the_variable_to_set(tmp_path, name):
    with RedisServer(throwaway=True) as somebody:
        said = refusal(tmp_path / "var", **{name: str(somebody.port)})

    assert said == f"port {somebody.port} on 127.0.0.1 is taken; set {name} to a free one.\n"


def test_both_taken_ports_are_named_at_once(tmp_path):
    with RedisServer(throwaway=True) as one, RedisServer(throwaway=True) as other:
        said = refusal(tmp_path / "var", CONTROL_PLANE_PORT=str(one.port), DATA_PLANE_PORT=str(other.port))

    assert said == (
        f"port {one.port} on 127.0.0.1 is taken; set CONTROL_PLANE_PORT to a free one.\n"
        f"port {other.port} on 127.0.0.1 is taken; set DATA_PLANE_PORT to a free one.\n"
    )


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "8000x", "٣"])
def test_what_is_no_port_is_refused(tmp_path, port):
    assert "CONTROL_PLANE_PORT is a port number" in refusal(tmp_path / "var", CONTROL_PLANE_PORT=port)


def test_one_named_server_means_production_and_a_missing_other_is_refused(tmp_path):
    said = refusal(tmp_path / "var", DATABASE_URL="postgresql://user:password@127.0.0.1:1/name")

    assert "REDIS_URL missing" in said
    assert "GATEWAY_MODE=evaluation" in said


def test_production_with_both_servers_named_says_what_else_it_needs(tmp_path, redis_url):
    said = refusal(tmp_path / "var", DATABASE_URL="postgresql://user:password@127.0.0.1:1/name", REDIS_URL=redis_url)

    for name in ("SECRET_KEY", "ALLOWED_HOSTS", "DOCUMENT_KEYS", "SEALING_PUBLIC_KEY"):
        assert name in said
