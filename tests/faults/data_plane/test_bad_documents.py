"""Holds: data_plane.state.store, gateway_core.envelopes

A corpus of bad snapshot documents, fed to a worker under traffic: each is refused and reported, no request fails.

Some are by somebody who can write Redis, most by somebody who holds the document keys and publishes nonsense: a control
plane with a bug, a careless hand.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pytest

from gateway_core import envelopes, snapshot
from gateway_core.catalog import Surface
from gateway_core.envelopes import DocumentKeys, Purpose
from gateway_core.snapshot import (
    MAX_DOCUMENT_BYTES,
    ChangeDocument,
    ConfigurationDocument,
    ProviderDocument,
    Rule,
    Step,
    SurfaceSupport,
)
from gateway_core.worker_reports import open_report
from local.stand_in import StandIn
from tests.patience import eventually
from tests.steady import SteadyTraffic
from tests.workers import Client, SnapshotWriter, Tenant, WorkerProcess

pytestmark = pytest.mark.faults

RATE: Final = 500
ID = "01h455vb4pex5vsknk084sn02q"
KEY, CONFIGURATION, LAB, SETTINGS = f"providerKey:aigpk_{ID}", f"configuration:aigac_{ID}", "provider:lab", "settings"
FORGER = DocumentKeys.parse(envelopes.generate_document_key())
DEEP = b"[" * 2000 + b"]" * 2000
SURFACES = [{"surface": "chat-completions"}]


def body(**members: Any) -> bytes:
    """JSON, also such as the control plane would never write."""
    return json.dumps(members).encode()


def rules(**members: Any) -> bytes:
    """A configuration with one rule."""
    return body(rules=[{"provider": "openai", "steps": [{"type": "ngrok"}]} | members])


# Authentic for their place and in the version; what they say is wrong. By document name.
BODIES: Final[dict[str, tuple[str, bytes]]] = {
    "empty": (KEY, b""),
    "blank": (KEY, b" \n"),
    "null": (KEY, b"null"),
    "a number": (KEY, b"7"),
    "a list": (KEY, b"[]"),
    "text": (KEY, b'"key"'),
    "no members": (KEY, b"{}"),
    "cut off": (KEY, b'{"provider":"openai","mask":"sk-1***2","seal'),
    "cut off in a string": (KEY, b'{"provider":"open'),
    "two documents": (KEY, body(provider="openai", mask="m", sealed="YQ==") * 2),
    "not UTF-8": (KEY, b'{"provider":"\xff\xfe","mask":"m","sealed":"YQ=="}'),
    "a lone surrogate": (KEY, b'{"provider":"\\ud800","mask":"m","sealed":"YQ=="}'),
    "a byte order mark": (KEY, b"\xef\xbb\xbf" + body(provider="openai", mask="m", sealed="YQ==")),
    "key: a number for text": (KEY, body(provider=7, mask="m", sealed="YQ==")),
    "key: null for text": (KEY, body(provider=None, mask="m", sealed="YQ==")),
    "key: blank provider": (KEY, body(provider="", mask="m", sealed="YQ==")),
    "key: blank mask": (KEY, body(provider="openai", mask="", sealed="YQ==")),
    "key: no sealed value": (KEY, body(provider="openai", mask="m")),
    "key: sealed is not base64": (KEY, body(provider="openai", mask="m", sealed="§§")),
    "key: a name past its limit": (KEY, body(provider="p" * 256, mask="m", sealed="YQ==")),
    "key: an object for text": (KEY, body(provider={"id": "openai"}, mask="m", sealed="YQ==")),
    "key: 2,000 deep": (KEY, b'{"provider":"openai","mask":"m","sealed":"YQ==","later":' + DEEP + b"}"),
    "settings: a number for a duration": (SETTINGS, body(totalTimeout=120)),
    "settings: no duration": (SETTINGS, body(totalTimeout="soon")),
    "settings: a blank duration": (SETTINGS, body(totalTimeout="")),
    "settings: a negative duration": (SETTINGS, body(perRequestTimeout="-1s")),
    "settings: nothing of a duration": (SETTINGS, body(perRequestTimeout="0s")),
    "settings: NaN": (SETTINGS, b'{"maxInputTokens":NaN}'),
    "settings: Infinity": (SETTINGS, b'{"maxInputTokens":Infinity}'),
    "settings: 1e999": (SETTINGS, b'{"maxInputTokens":1e999}'),
    "settings: a fraction": (SETTINGS, body(maxInputTokens=1.5)),
    "settings: a cap of nothing": (SETTINGS, body(maxOutputTokens=0)),
    "settings: text for a number": (SETTINGS, body(maxOutputTokens="100")),
    "settings: a number for yes or no": (SETTINGS, body(hasCredits=1)),
    "settings: 2,000 deep": (SETTINGS, DEEP),
    "configuration: rules are no list": (CONFIGURATION, body(rules={"openai": []})),
    "configuration: a rule is no object": (CONFIGURATION, body(rules=["openai"])),
    "configuration: a rule without steps": (CONFIGURATION, rules(steps=[])),
    "configuration: a rule of nobody": (CONFIGURATION, rules(provider="")),
    "configuration: a rule's blank model": (CONFIGURATION, rules(model="")),
    "configuration: an unknown step": (CONFIGURATION, rules(steps=[{"type": "magic"}])),
    "configuration: a step without type": (CONFIGURATION, rules(steps=[{"keys": [f"aigpk_{ID}"]}])),
    "configuration: no ID of a key": (CONFIGURATION, rules(steps=[{"type": "user", "keys": ["../etc"]}])),
    "configuration: a list past its limit": (CONFIGURATION, body(scope={"providers": ["openai"] * 100_001})),
    "configuration: a blank provider": (CONFIGURATION, body(scope={"providers": [""]})),
    "configuration: a model of three parts": (CONFIGURATION, body(scope={"models": [["a", "b", "c"]]})),
    "configuration: a model of one part": (CONFIGURATION, body(scope={"models": [["openai"]]})),
    "configuration: scope is text": (CONFIGURATION, body(scope="all")),
    "configuration: 2,000 deep": (CONFIGURATION, b'{"rules":' + DEEP + b"}"),
    "provider: no ID": (LAB, body(name="lab", baseUrl="http://127.0.0.1/v1", surfaces=SURFACES)),
    "provider: a wrong ID": (LAB, body(id="lab", name="lab", baseUrl="http://127.0.0.1", surfaces=SURFACES)),
    "provider: a blank base URL": (LAB, body(id=f"aigp_{ID}", name="lab", baseUrl="", surfaces=SURFACES)),
    "provider: a base URL past its limit": (
        LAB,
        body(id=f"aigp_{ID}", name="lab", baseUrl="http://h/" + "a" * 4096, surfaces=SURFACES),
    ),
    "provider: an unknown surface": (
        LAB,
        body(id=f"aigp_{ID}", name="lab", baseUrl="http://127.0.0.1", surfaces=[{"surface": "telepathy"}]),
    ),
    "provider: surfaces past their limit": (
        LAB,
        body(id=f"aigp_{ID}", name="lab", baseUrl="http://127.0.0.1", surfaces=SURFACES * 65),
    ),
    "must be understood and is not": (KEY, body(provider="openai", mask="m", sealed="YQ==", mustUnderstand=["moon"])),
    "huge": (KEY, body(provider="openai", mask="m", sealed="Y" * (MAX_DOCUMENT_BYTES + 4))),
}

Forge = Callable[[SnapshotWriter, Tenant, int], bytes]


def _signed(writer: SnapshotWriter, tenant: Tenant, name: str, version: int, content: bytes) -> bytes:
    return writer.document_keys.sign(Purpose.DOCUMENT, writer.names.location(tenant.id, name), version, content)


GOOD_BODY = body(provider="openai", mask="m", sealed="YQ==")


def _wrong_purpose(writer: SnapshotWriter, tenant: Tenant, version: int) -> bytes:
    return writer.document_keys.sign(Purpose.WORKER, writer.names.location(tenant.id, KEY), version, GOOD_BODY)


def _foreign_key(writer: SnapshotWriter, tenant: Tenant, version: int) -> bytes:
    return FORGER.sign(Purpose.DOCUMENT, writer.names.location(tenant.id, KEY), version, GOOD_BODY)


# Not authentic for the place of the provider key.
ENVELOPES: Final[dict[str, Forge]] = {
    "no envelope": lambda *_: b"",
    "a header alone": lambda writer, tenant, version: _signed(writer, tenant, KEY, version, GOOD_BODY)[:71],
    "half a header": lambda writer, tenant, version: _signed(writer, tenant, KEY, version, GOOD_BODY)[:30],
    "without its header": lambda *_: GOOD_BODY,
    "its last byte gone": lambda writer, tenant, version: _signed(writer, tenant, KEY, version, GOOD_BODY)[:-1],
    "a byte more": lambda writer, tenant, version: _signed(writer, tenant, KEY, version, GOOD_BODY) + b" ",
    "a bit flipped": lambda writer, tenant, version: _signed(writer, tenant, KEY, version, GOOD_BODY)[:-2] + b"~}",
    "of another field": lambda writer, tenant, version: _signed(writer, tenant, SETTINGS, version, GOOD_BODY),
    "of another account": lambda writer, _, version: _signed(writer, writer.tenant(), KEY, version, GOOD_BODY),
    "for another purpose": _wrong_purpose,
    "of another key": _foreign_key,
    "of a later form": lambda writer, tenant, version: b"2" + _signed(writer, tenant, KEY, version, GOOD_BODY)[1:],
    "another version in its header": lambda writer, tenant, version: _signed(
        writer, tenant, KEY, version, GOOD_BODY
    ).replace(f"{version:016}".encode(), f"{version + 1:016}".encode()),
    "of a version past its account's": lambda writer, tenant, version: _signed(
        writer, tenant, KEY, version + 10**12, GOOD_BODY
    ),
    "older than what is held": lambda writer, tenant, _: _signed(writer, tenant, KEY, 5, GOOD_BODY),
}


def test_the_corpus_is_as_large_as_it_is_said_to_be():
    assert len(BODIES) + len(ENVELOPES) >= 60


class Case:
    """An account with good documents, one of which becomes bad."""

    def __init__(self, writer: SnapshotWriter, number: int, upstream: StandIn) -> None:
        self.tenant = writer.tenant()
        self.good = f"sk-last-good-{number}-0123456789abcd"
        rule = Rule(provider="openai", steps=(Step(type="user", keys=(KEY.partition(":")[2],)),))
        document = ProviderDocument(
            id=f"aigp_{ID}", name="lab", base_url=upstream.url, surfaces=(SurfaceSupport(Surface.CHAT_COMPLETIONS),)
        )
        self.tenant.publish(
            {
                KEY: self.tenant.key_document(KEY.partition(":")[2], self.good),
                CONFIGURATION: ConfigurationDocument(rules=(rule,)),
                LAB: document,
            }
        )
        self.token = self.tenant.token(configuration=CONFIGURATION.partition(":")[2])

    def location(self, document: str) -> str:
        """As the worker tells of it."""
        return f"{self.tenant.writer.names.account(self.tenant.id)} {document}"


async def test_no_document_of_the_corpus_is_taken_or_costs_a_request(
    client: Client,
    process: WorkerProcess,
    writer: SnapshotWriter,
    upstream: StandIn,
    capsys: pytest.CaptureFixture[str],
):
    cases = {name: Case(writer, number, upstream) for number, name in enumerate((*BODIES, *ENVELOPES))}
    for case in cases.values():
        assert await client.status(case.token) == 200
    seen = len(upstream.calls)

    # That one takes its object out of service, which is what it is for.
    shown = [case.token for name, case in cases.items() if name != "must be understood and is not"]
    async with SteadyTraffic(client.url, shown, rate=RATE) as traffic:
        for name, (document, content) in BODIES.items():
            tenant, version = cases[name].tenant, writer.next_version()
            location = writer.names.location(tenant.id, document)
            # The largest is larger than a signer of ours would sign, or a change would carry.
            envelope = writer.document_keys.sign(Purpose.DOCUMENT, location, version, content, limit=2**30)
            is_large = len(envelope) > snapshot.MAX_CHANGE_BYTES
            writer.publish(tenant.id, {document: envelope}, version=version, is_partial=is_large)
            await asyncio.sleep(0.05)
        for name, forge in ENVELOPES.items():
            tenant, version = cases[name].tenant, writer.next_version()
            writer.publish(tenant.id, {KEY: forge(writer, tenant, version)}, version=version)
            await asyncio.sleep(0.05)
        # Entries of the stream that are none, and one from the past.
        entries = cases["empty"].tenant
        past = writer.document_keys.sign(
            Purpose.CHANGE, writer.names.change(entries.id), 7, snapshot.encode(ChangeDocument(documents={}))
        )
        for entry in (b"", b"\x00" * 500, b"{}" + DEEP, past, past[:-1]):
            writer.add_entry(entries.id, entry)

        told = {name: case.location(BODIES[name][0] if name in BODIES else KEY) for name, case in cases.items()}

        def untold() -> list[str]:
            said = process.log.read_text()
            return [name for name, location in told.items() if location not in said]

        with suppress(AssertionError):
            await eventually(lambda: not untold())
        assert not untold()
        # A good document after the bad one is in force: nothing is stuck.
        for case in cases.values():
            case.tenant.publish({KEY: case.tenant.key_document(KEY.partition(":")[2], case.good)})
        statuses = await traffic.end()

    with capsys.disabled():
        print(f" ({traffic.statuses.total() / traffic.seconds:.0f} requests/s)", end="")
    assert set(statuses) == {200}, statuses
    assert {call.key for call in upstream.calls[seen:]} <= {case.good for case in cases.values()}
    ((worker, sealed),) = writer.redis.hgetall(writer.names.workers).items()
    report = open_report(writer.names, writer.document_keys, worker.decode(), sealed)
    assert report.refusals >= len(cases)
    assert report.last_refusals


async def test_a_bad_document_without_a_last_good_one_is_503_and_no_denial(client: Client, writer: SnapshotWriter):
    """A worker that never saw the good one cannot know what it said."""
    answers = {}
    for name in ("cut off", "settings: NaN", "configuration: a rule without steps", "key: no sealed value"):
        document, content = BODIES[name]
        tenant = writer.tenant()
        token = tenant.token(configuration=CONFIGURATION.partition(":")[2])
        version = writer.next_version()
        location = writer.names.location(tenant.id, document)
        envelope = writer.document_keys.sign(Purpose.DOCUMENT, location, version, content)
        writer.publish(tenant.id, {document: envelope}, version=version)
        answer = await client.chat(token)
        answers[name] = (answer.status, "retry-after" in answer.headers)

    assert set(answers.values()) == {(503, True)}, answers
