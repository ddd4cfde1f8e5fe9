"""Holds: data_plane.error_forms, data_plane.forwarding.outcomes, data_plane.forwarding.connection_faults

What a caller reads when nothing answered: the upstream's reason, how long to wait, whether to try again, whom to ask.
"""

import asyncio
import email.utils
import json
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from data_plane.forwarding import failure_log
from data_plane.forwarding.failure_log import FailureLog
from gateway_core.catalog import Surface
from gateway_core.redaction import mask
from gateway_core.snapshot import SurfaceSupport
from tests.scripted_upstream import GOOD, answer, head, scripted
from tests.workers import Client, Running, SnapshotWriter, Tenant, events_of, saying

KEY, OTHER = "first-key-0123456789", "other-key-0123456789"
UNAUTHORIZED = b'{"error":{"message":"Incorrect API key provided: %b. See the console.","code":"invalid_api_key"}}'


async def told(client: Client, alice: Tenant, *answers: bytes, surface: str = "chat", **options: Any) -> Any:
    """What a caller reads where each of its keys gets one of these answers."""
    keys = (KEY, OTHER)[: len(answers)]
    async with scripted({key: [one] for key, one in zip(keys, answers, strict=True)}) as upstream:
        alice.provider("mine", upstream.url, *map(SurfaceSupport, Surface))
        token = alice.routed(*keys, provider="mine")
        if surface == "messages":
            return await client.message(token, "mine:m", **options)
        return await client.chat(token, "mine:m", **options)


async def test_the_upstreams_own_reason_is_passed_on_without_its_secrets(client: Client, alice: Tenant):
    body = UNAUTHORIZED % KEY.encode()
    found = await told(client, alice, answer(body, 401))

    message = found.json()["error"]["message"]
    assert found.status == 502
    assert "The upstream says: Incorrect API key provided: " in message
    assert "See the console." in message
    assert f"mine:m with {mask(KEY)}: 401" in message
    assert KEY not in found.body.decode()


@pytest.mark.parametrize(
    "text",
    [
        "bad key sk-ant-api03-" + "A1b2" * 10,
        "Authorization: Bearer " + "z" * 40,
        "postgres://admin:hunter2@db/x",
        "line one\r\nline two\u2028three\x00",
        "x" * 5000,
        "<script>alert(1)</script>",
    ],
)
async def test_a_reason_is_one_bounded_line_without_what_looks_like_a_secret(client: Client, alice: Tenant, text: str):
    found = await told(client, alice, answer(json.dumps({"error": {"message": text}}).encode(), 500))

    message = found.json()["error"]["message"]
    assert len(message) < 500
    assert not {"\n", "\r", "\u2028", "\x00"} & set(message)
    assert not any(secret in message for secret in ("A1b2A1b2A1b2A1b2A1b2A1b2", "zzzzzzzz", "hunter2"))


async def test_where_reasons_differ_each_stands_beside_its_attempt(client: Client, alice: Tenant):
    busy, bad = (json.dumps({"error": {"message": text}}).encode() for text in ("Busy.", "Bad key."))
    found = await told(client, alice, answer(busy, 503), answer(bad, 401))

    message = found.json()["error"]["message"]
    assert f"{mask(KEY)}: 503 (Busy.)" in message
    assert f"{mask(OTHER)}: 401 (Bad key.)" in message
    assert "The upstream says" not in message


async def test_an_agreed_reason_is_said_once(client: Client, alice: Tenant):
    same = answer(b'{"message":"Service down for maintenance","request_id":"x"}', 503)
    found = await told(client, alice, same, same)

    assert found.json()["error"]["message"].count("Service down for maintenance") == 1


async def test_what_the_operators_upstream_says_is_not_passed_on(
    client: Client, alice: Tenant, writer: SnapshotWriter, make_worker: Any
):
    async with saying(answer(b'{"error":{"message":"organization org-secret is over its limit"}}', 429)) as url:
        worker = await make_worker(upstream_base_urls={"openai": url})
        writer.managed(openai="sk-managed-0123456789abcdef")
        await worker.reaches(alice.settings(has_credits=True))
        found = await worker.client.chat(alice.token(), "openai:gpt-4o")

    assert found.status == 429
    assert b"org-secret" not in found.body


def in_seconds(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


WAITS = [
    (429, {"retry_after": "7"}, "7", None),
    (429, {"retry_after": "1.5"}, "2", "1500"),
    (429, {"retry_after": "0.25"}, "1", "250"),
    (429, {"retry_after_ms": "1250", "retry_after": "9"}, "2", "1250"),
    (503, {"retry_after": "12"}, "12", None),
    (529, {"retry_after": "3"}, "3", None),
    (529, {"retry_after_ms": "2000"}, "2", None),
    (500, {"retry_after": "99999999"}, "3600", None),
    (503, {"retry_after": "soon"}, None, None),
    (429, {}, "1", None),
]


@pytest.mark.parametrize(("status", "headers", "seconds", "milliseconds"), WAITS)
async def test_every_form_of_a_wait_reaches_the_caller(
    client: Client, alice: Tenant, status: int, headers: dict[str, str], seconds: str | None, milliseconds: str | None
):
    found = await told(client, alice, answer(b"{}", status, **headers))

    assert found.status == (429 if status == 429 else 502)
    assert found.headers.get("retry-after") == seconds
    assert found.headers.get("retry-after-ms") == milliseconds


async def test_a_date_to_wait_for_becomes_seconds(client: Client, alice: Tenant):
    found = await told(client, alice, answer(b"{}", 503, retry_after=in_seconds(120)))

    assert 100 < int(found.headers["retry-after"]) <= 121


async def test_the_shortest_wait_counts_and_none_of_a_dead_key(client: Client, alice: Tenant):
    long, dead = answer(b"{}", 503, retry_after="60"), answer(b"{}", 401, retry_after="1")

    assert (await told(client, alice, long, dead)).headers["retry-after"] == "60"


async def test_the_upstreams_rate_limits_and_its_name_for_the_request_go_with_the_error(client: Client, alice: Tenant):
    limited = answer(b"{}", 429, x_ratelimit_remaining_tokens="0", x_request_id="req-upstream", set_cookie="a=b")
    found = await told(client, alice, limited)

    assert found.headers["x-ratelimit-remaining-tokens"] == "0"
    assert found.headers["gateway-upstream-request-id"] == "req-upstream"
    assert found.headers["x-request-id"] != "req-upstream"
    assert "set-cookie" not in found.headers


@pytest.mark.parametrize("named", [{"x_request_id": "req-upstream"}, {"request_id": "req-upstream"}])
async def test_an_answer_names_the_upstreams_request_beside_ours(client: Client, alice: Tenant, named: Any):
    found = await told(client, alice, answer(GOOD, **named))

    assert found.headers["gateway-upstream-request-id"] == "req-upstream"
    assert found.headers["x-request-id"].startswith("req_")


async def test_an_upstreams_name_for_a_request_never_holds_the_key(client: Client, alice: Tenant):
    found = await told(client, alice, answer(GOOD, x_request_id=f"req-{KEY}"))

    assert KEY not in str(found.headers)


KEEPS = ["abc", "req_0123", "a" * 128, "01J9-x.y:z_0"]
DROPS = ["", "a" * 129, "a b", "-x", 'a"b', "a/b", "é"]


@pytest.mark.parametrize(("given", "keeps"), [*((one, True) for one in KEEPS), *((one, False) for one in DROPS)])
async def test_a_callers_own_request_id_is_kept_if_it_is_well_formed(
    client: Client, alice: Tenant, writer: SnapshotWriter, given: str, *, keeps: bool
):
    found = await told(client, alice, answer(GOOD), headers={"x-request-id": given})

    assert (found.headers["x-request-id"] == given) is keeps
    (event,) = await writer.usage_of(1)
    assert event.request_id == found.headers["x-request-id"]


async def test_anthropics_clients_read_our_name_for_the_request(client: Client, alice: Tenant):
    refused = await client.message("gwk_unknown")
    answered = await told(
        client, alice, answer(b'{"type":"message","content":[]}', request_id="req_theirs"), surface="messages"
    )

    assert refused.json()["request_id"] == refused.headers["request-id"] == refused.headers["x-request-id"]
    assert answered.headers["request-id"] == answered.headers["x-request-id"] != "req_theirs"
    assert answered.headers["gateway-upstream-request-id"] == "req_theirs"


# ── whether to try again ──


@pytest.mark.parametrize(
    ("statuses", "lasting"),
    [((401,), True), ((402,), True), ((403, 401), True), ((401, 500), False), ((500,), False), ((429,), False)],
)
async def test_only_where_each_attempt_failed_by_its_key_clients_are_told_not_to_retry(
    client: Client, alice: Tenant, statuses: tuple[int, ...], lasting: bool
):
    found = await told(client, alice, *(answer(b"{}", status) for status in statuses))

    assert (found.headers.get("x-should-retry") == "false") is lasting
    assert found.headers["gateway-error"] in {"attempts_failed", "rate_limited"}


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 451])
async def test_an_upstreams_refusal_says_whether_it_comes_again(client: Client, alice: Tenant, status: int):
    found = await told(client, alice, answer(b'{"error":{"message":"no"}}', status))

    assert found.status == status
    assert found.headers.get("x-should-retry") == (None if status == 409 else "false")
    assert "gateway-error" not in found.headers


async def test_an_upstreams_own_word_on_it_stands(client: Client, alice: Tenant):
    found = await told(client, alice, answer(b"{}", 400, x_should_retry="true"))

    assert found.headers.getall("x-should-retry") == ["true"]


POLICY = [("openai:nothing-like-it", "model_unknown"), ("nobody:x", "provider_unknown")]


@pytest.mark.parametrize(("model", "code"), POLICY)
@pytest.mark.parametrize(
    ("path", "status"),
    [("chat/completions", 404), ("completions", 404), ("embeddings", 404), ("messages", 404), ("responses", 400)],
)
async def test_a_refusal_by_policy_has_the_status_that_the_surfaces_clients_show(
    client: Client, alice: Tenant, path: str, status: int, model: str, code: str
):
    if code == "model_unknown":
        model = "nothing-like-it"
    body = json.dumps({"model": model, "messages": [], "input": "", "prompt": "", "max_tokens": 1})
    found = await client.request("POST", f"/v1/{path}", alice.token(), data=body)

    assert (found.status, found.headers["gateway-error"]) == (status, code)
    assert found.headers["x-should-retry"] == "false"
    if path == "messages":
        assert found.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/chat/completions", 401, "access_key_missing"),
        ("POST", "/v1/messages", 401, "access_key_missing"),
        ("GET", "/v1/messages", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "not_found"),
    ],
)
async def test_every_refusal_names_its_code_in_a_header(client: Client, method: str, path: str, status: int, code: str):
    found = await client.request(method, path, data=b"{}")

    assert (found.status, found.headers["gateway-error"]) == (status, code)
    assert found.headers["x-should-retry"] == "false"


# ── why there was no answer ──


async def in_plain_text(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Where TLS is expected."""
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()
    writer.close()


async def test_the_caller_reads_why_no_connection_came_about(worker: Running, alice: Tenant):
    async with (
        saying(b"SSH-2.0-nothing\r\n") as not_http,
        saying(b"") as closing,
        await asyncio.start_server(in_plain_text, "127.0.0.1", 0) as plain,
    ):
        cases = {
            "http://127.0.0.1:9": "refused",
            f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}": "TLS",
            not_http: "the answer is not HTTP",
            closing: "closed without an answer",
            "http://no-such-name.internal": "DNS: the name is not known",
        }
        found = {}
        for number, url in enumerate(cases):
            alice.provider(f"mine{number}", url)
            found[url] = (await worker.client.chat(alice.token(), f"mine{number}:m")).json()["error"]["message"]

    for url, word in cases.items():
        assert f"connection_failed ({word}" in found[url], url


async def test_a_failed_attempt_is_logged_with_its_reason_and_without_texts_of_others(
    client: Client, alice: Tenant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(failure_log, "_failures", FailureLog())
    with capture_logs() as logged:
        found = await told(client, alice, answer(UNAUTHORIZED % KEY.encode(), 401))

    (line,) = [one for one in logged if one["event"] == "an attempt failed"]
    assert (line["provider"], line["reason"]) == ("mine", "401")
    assert (line["account"], line["request_id"]) == (alice.id, found.headers["x-request-id"])
    assert "Incorrect" not in str(line)


def test_the_log_of_failed_attempts_is_bounded_and_says_what_it_left_out():
    failures = FailureLog()

    with capture_logs() as logged:
        for _ in range(500):
            failures.note(1.0, reason="500")
        failures.note(20.0, reason="500")

    assert len(logged) == 22
    assert [one["left_out"] for one in logged if "left_out" in one] == [480]


# ── how a stream on `responses` ends that breaks off ──


async def test_a_cut_stream_of_a_response_ends_in_both_forms_that_clients_read(client: Client, alice: Tenant):
    begun = (
        b'data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_abc"}}\n\n'
        b'data: {"type":"response.output_text.delta","sequence_number":7,"delta":"x"}\n\n'
    )
    async with saying(head() + begun) as url:
        alice.provider("mine", url, SurfaceSupport(Surface.RESPONSES))
        body = json.dumps({"model": "mine:m", "input": "Hi", "stream": True})
        found = await client.request("POST", "/v1/responses", alice.token(), data=body)

    *_, (failed_name, failed), (error_name, error) = events_of(found.body)
    assert (failed_name, failed["type"], failed["sequence_number"]) == ("response.failed", "response.failed", 8)
    assert (failed["response"]["id"], failed["response"]["status"]) == ("resp_abc", "failed")
    assert failed["response"]["error"]["code"] == "answer_cut"
    assert (error_name, error["type"], error["sequence_number"]) == ("error", "error", 9)
    assert error["code"] == error["error"]["code"] == "answer_cut"
    assert error["message"] == error["error"]["message"]
