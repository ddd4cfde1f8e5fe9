"""Holds: data_plane.usage.emitter, usage.ingest, usage.views

From a caller's request to `/usage`, through everything that `make run` starts: each attempt once, with its tokens
and its cost, whatever fails or is killed on the way. And credits, from a ledger to a refusal and back.
"""

import http.client
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import psutil
import pytest

from gateway_core.redaction import mask
from gateway_core.sealing import public_key_of
from tests.gateway_run import GatewayRun, shell
from tests.patience import stretched, wait_until

pytestmark = [pytest.mark.xdist_group("run"), pytest.mark.faults]

OWN = "sk-own-0123456789abcdefghijkl"
# 11 tokens in at 150 dollars a million, 5 out at 600: what the stand-in tells of each answer.
COST = "0.00465"
MODEL = "openai:o1-pro"
VISIBLE_SECONDS = 10
IN_FORCE_SECONDS = 5
SINCE = (datetime.now(UTC) - timedelta(minutes=5)).isoformat().replace("+00:00", "Z")


def failing(word: str) -> str:
    """A key that makes the stand-in behave so."""
    return f"sk-demo-{word}-0123456789abcdef"


class Answer(NamedTuple):
    """What came back; `is_whole` where all of it did."""

    status: int
    request_id: str
    body: bytes
    # How many attempts the gateway says it made: a key that failed is passed over for a while.
    attempts: int


class Gateway:
    """A run, and what an operator, a developer and an app do with it."""

    def __init__(self, run: GatewayRun) -> None:
        self.run = run

    # ── the management API ──

    def api(self, method: str, path: str, body: Any = None) -> Any:
        token = self.run.dev_env["AI_GATEWAY_API_KEY"]
        connection = self._connect("CONTROL_PLANE_URL")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, text
        return json.loads(text)

    def access_key(self, *values: str, rules: list[Any] | None = None) -> tuple[str, str]:
        """An access key that tries these provider keys in this order; its token and its ID."""
        keys = [{"name": f"key {number}", "value": value} for number, value in enumerate(values)]
        rules = rules or [{"provider": "openai", "steps": [{"type": "user", "keys": keys}]}]
        configuration = self.api("POST", "/access-key-configurations", {"name": "c", "router": {"rules": rules}})
        made = self.api("POST", "/access-keys", {"accessKeyConfigurationId": configuration["id"]})
        return made["token"], made["id"]

    def usage(self, access_key: str, *, retries: bool = True) -> list[Any]:
        query = {"startTime": SINCE, "accessKeyId": access_key, "includeRetries": str(retries).lower()}
        found: list[Any] = self.api("GET", f"/usage?{urlencode(query)}")["aiGatewayUsage"]
        return found

    def usage_of(self, access_key: str, count: int, *, within: float = VISIBLE_SECONDS) -> list[Any]:
        """All events of an access key, oldest first, once there are so many."""
        wait_until(lambda: len(self.usage(access_key)) >= count, within=within, what="usage and credits follow")
        return sorted(self.usage(access_key), key=lambda event: (event["eventTime"], event["attemptNumber"]))

    # ── the data plane ──

    def chat(self, token: str, *, last: Callable[[], None] | None = None, **members: Any) -> Answer:
        """A chat completion; `last` is called the moment that its last piece is here."""
        connection = self._connect("DATA_PLANE_URL")
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]} | members
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            read = b""
            while piece := answer.read1():
                read += piece
                if last is not None and read.endswith((b"data: [DONE]\n\n", b"}")):
                    last()
                    break
            attempts = int(answer.getheader("gateway-attempts", "0"))
            return Answer(answer.status, answer.getheader("x-request-id", ""), read, attempts)
        finally:
            connection.close()

    def is_answering(self) -> bool:
        try:
            return bool(self.run.get("DATA_PLANE_URL", "/readyz")[0] == 200)
        except (OSError, http.client.HTTPException):
            return False

    # ── the operator ──

    def manage(self, *command: str, said: str = "") -> None:
        secrets = {path.name: path.read_text().strip() for path in (self.run.var / "secrets").iterdir()}
        secrets["SEALING_PUBLIC_KEY"] = public_key_of(secrets.pop("SEALING_PRIVATE_KEYS"))
        servers = {name: self.run.dev_env[name] for name in ("DATABASE_URL", "REDIS_URL", "GATEWAY_MODE")}
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            env=shell(**servers, **secrets),
            input=said,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def kill(self, *words: str) -> None:
        """SIGKILL for a process of the run, and for all that it started."""
        supervisor = psutil.Process(self.run.process.pid)
        for one in supervisor.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if set(words) <= {part for word in one.cmdline() for part in (word, Path(word).name)}:
                    for victim in (*one.children(recursive=True), one):
                        victim.kill()

    def _connect(self, plane: str) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", urlsplit(self.run.dev_env[plane]).port or 0, timeout=30)


@pytest.fixture(scope="module")
def gateway(whole_gateway: GatewayRun) -> Gateway:
    return Gateway(whole_gateway)


@pytest.mark.parametrize("is_streaming", [False, True])
def test_a_fault_at_each_attempt_shows_each_attempt_once_with_tokens_and_cost(
    gateway: Gateway, is_streaming: bool
) -> None:
    faults = ["429", "500", "close", "401", "302"]
    token, access_key = gateway.access_key(*map(failing, faults), OWN)

    answer = gateway.chat(token, stream=is_streaming)

    assert (answer.status, answer.attempts) == (200, 6)
    told = gateway.usage_of(access_key, 6)
    assert {event["requestId"] for event in told} == {answer.request_id}
    assert [event["attemptNumber"] for event in told] == [1, 2, 3, 4, 5, 6]
    assert [event["statusCode"] for event in told] == [429, 500, 0, 401, 302, 200]
    assert [event["isFinalAttempt"] for event in told] == [False] * 5 + [True]
    assert [event["isError"] for event in told] == [True] * 5 + [False]
    assert [event["providerKeyDisplayName"] for event in told] == [
        *(mask(failing(one)) for one in faults),
        mask(OWN),
    ]
    assert [event["totalCost"] for event in told] == ["0.00000"] * 5 + [COST]
    assert [(event["inputTokens"], event["outputTokens"]) for event in told] == [(0, 0)] * 5 + [(11, 5)]
    assert {event["isStreaming"] for event in told} == {is_streaming}
    assert told[-1]["stopReason"] == "stop"
    assert {(event["provider"], event["model"]) for event in told} == {("openai", "o1-pro")}
    # One after the other answers, the newest first.
    second = gateway.chat(token, stream=is_streaming)
    gateway.usage_of(access_key, 6 + second.attempts)
    assert [event["requestId"] for event in gateway.usage(access_key, retries=False)] == [
        second.request_id,
        answer.request_id,
    ]
    overview = gateway.api("GET", f"/usage/overview?{urlencode({'startTime': SINCE, 'groupBy': 'accessKey'})}")
    (bucket,) = [one for one in overview["buckets"] if one["groupKey"] == access_key]
    assert (bucket["requests"], bucket["errors"], Decimal(bucket["cost"])) == (2, 0, 2 * Decimal(COST))


def test_timeouts_cut_streams_and_requests_that_fail_altogether_are_seen_as_what_they_are(gateway: Gateway) -> None:
    gateway.api("PATCH", "/gateway-config", {"perRequestTimeout": "700ms"})
    try:
        hanging, first = gateway.access_key(failing("hang"), failing("503"))
        cut, second = gateway.access_key(failing("cut"), OWN)

        assert gateway.chat(hanging).status == 502
        assert gateway.chat(cut, stream=True).status == 200
    finally:
        gateway.api("PATCH", "/gateway-config", {"perRequestTimeout": "60s"})

    timeout, last = gateway.usage_of(first, 2)
    assert (timeout["timedOut"], timeout["statusCode"], timeout["isFinalAttempt"]) == (True, 0, False)
    assert (last["timedOut"], last["statusCode"], last["isFinalAttempt"], last["isError"]) == (False, 503, True, True)
    (broken,) = gateway.usage_of(second, 1)
    assert (broken["statusCode"], broken["isError"], broken["isFinalAttempt"]) == (200, True, True)
    # What was estimated of it is charged for: two tokens in (the message), one for each of the four events that came.
    assert (broken["inputTokens"], broken["outputTokens"], broken["totalCost"]) == (2, 4, "0.00270")


def check_each_is_there_once(gateway: Gateway, access_key: str, answered: list[Answer], *, within: float) -> None:
    """Each request that was answered has its attempts in `/usage` exactly once, the last one with tokens and cost."""
    wanted = {answer.request_id: answer.attempts for answer in answered}
    assert answered[0].attempts == 2

    def all_there() -> bool:
        return wanted.keys() <= {event["requestId"] for event in gateway.usage(access_key, retries=False)}

    wait_until(all_there, within=within, what="usage and credits follow")
    events = [event for event in gateway.usage(access_key) if event["requestId"] in wanted]
    counted = Counter((event["requestId"], event["attemptNumber"]) for event in events)
    assert counted == Counter({(one, 1 + place): 1 for one, attempts in wanted.items() for place in range(attempts)})
    for event in events:
        is_final = event["attemptNumber"] == wanted[event["requestId"]]
        assert event["isFinalAttempt"] == is_final
        assert event["totalCost"] == (COST if is_final else "0.00000")
        assert (event["inputTokens"], event["outputTokens"]) == ((11, 5) if is_final else (0, 0))


def test_a_worker_killed_the_moment_its_answer_is_there_loses_no_usage(gateway: Gateway) -> None:
    token, access_key = gateway.access_key(failing("429"), OWN)
    answered = []

    for stream in (False, True, True):
        answered.append(gateway.chat(token, stream=stream, last=lambda: gateway.kill("data_plane", "serve")))
        wait_until(gateway.is_answering, what="it answers again")

    assert {answer.status for answer in answered} == {200}
    check_each_is_there_once(gateway, access_key, answered, within=VISIBLE_SECONDS)


def test_an_ingest_killed_again_and_again_counts_each_attempt_once(gateway: Gateway) -> None:
    token, access_key = gateway.access_key(failing("500"), OWN)
    answered = []

    for round_number in range(3):
        answered += [gateway.chat(token, stream=bool(number % 2)) for number in range(8)]
        # Somewhere between the read, the write and the acknowledgement, which follow each other within the second.
        time.sleep(0.3 * round_number)
        gateway.kill("celery", "worker")

    assert {answer.status for answer in answered} == {200}
    check_each_is_there_once(gateway, access_key, answered, within=60)


def test_a_redis_killed_and_started_again_loses_no_usage(gateway: Gateway) -> None:
    token, access_key = gateway.access_key(failing("500"), OWN)
    answered = [gateway.chat(token) for _ in range(5)]

    gateway.kill("valkey-server")
    answered += [gateway.chat(token, stream=bool(number % 2)) for number in range(10)]

    assert {answer.status for answer in answered} == {200}
    check_each_is_there_once(gateway, access_key, answered, within=60)
    wait_until(gateway.is_answering, what="it answers again")


def test_credits_that_run_out_refuse_managed_inference_and_a_grant_brings_it_back(gateway: Gateway) -> None:
    account = gateway.api("GET", "/gateway-config")["accountId"]
    gateway.manage("set_managed_key", "openai", said="sk-operator-0123456789abcdefghij\n")
    managed, access_key = gateway.access_key(rules=[{"provider": "openai", "steps": [{"type": "ngrok"}]}])
    own, _ = gateway.access_key(OWN)

    def status() -> int:
        assert gateway.chat(own).status == 200
        return gateway.chat(managed).status

    refused = gateway.chat(managed)
    assert refused.status in {400, 403}
    wait_until(lambda: status() == 403, within=IN_FORCE_SECONDS, what="usage and credits follow")
    assert json.loads(gateway.chat(managed).body)["error"]["code"] == "no_credits"

    # Two and a bit of these requests: the third takes the balance below zero.
    gateway.manage("grant_credits", account, "1", "--yes")
    wait_until(lambda: status() == 200, within=IN_FORCE_SECONDS, what="usage and credits follow")
    for _ in range(2):
        gateway.chat(managed)
    took = wait_until(lambda: status() == 403, within=IN_FORCE_SECONDS, what="usage and credits follow")

    assert gateway.api("GET", "/credits/balance")["balanceCents"] <= 0
    gateway.manage("grant_credits", account, "100", "--yes")
    back = wait_until(lambda: status() == 200, within=IN_FORCE_SECONDS, what="usage and credits follow")
    assert max(took, back) < stretched(IN_FORCE_SECONDS)
    events = gateway.usage_of(access_key, 4)
    assert {(event["keySource"], event["totalCost"]) for event in events} == {("ngrok", COST)}
    assert all("providerKeyId" not in event for event in events)
