"""Holds: provider_keys.services, gateway_core.sealing

No value of a provider key is anywhere but sealed: marked ones go through every write, then everything is searched.

A name of a field is not a value: an unknown one is named in its refusal, and masked where it looks like a key. The
search knows the mark as it stands and in the encodings in which it might slip through.
"""

import base64
import hashlib
import logging
from collections.abc import Iterator
from urllib.parse import quote

import orjson
import pytest
import structlog
from django.db import connection

from snapshots import rebuild
from snapshots.publisher import pause
from snapshots.redis_client import inline_store, keys, patient_store

pytestmark = pytest.mark.django_db(transaction=True)

MARK = "MARKED/5f2c~marked+9a"
VALUES = [f"sk-proj-ab{MARK}wxyz", f"gsk_rotate{MARK}1234", f"inline-key{MARK}5678"]
URL = "/access-key-configurations"


def traces() -> Iterator[bytes]:
    """What the search looks for."""
    yield MARK.encode()
    yield orjson.dumps(MARK)[1:-1]
    yield quote(MARK, safe="").encode()
    yield MARK.encode().hex().encode()
    for value in VALUES:
        yield hashlib.sha256(value.encode()).hexdigest().encode()
    for shift in range(3):
        # The part of the Base64 that depends on the mark alone.
        yield base64.b64encode(b"x" * shift + MARK.encode())[4:-4]


def assert_clean(where: str, content: bytes) -> None:
    """No trace of the mark."""
    for trace in traces():
        assert trace not in content, f"{trace!r} in {where}"


@pytest.fixture
def _published(transactional_db: None) -> Iterator[None]:
    """A Redis that takes publications."""
    pause.end()
    rebuild.rebuild(patient_store())
    yield
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()


def write_everything(api):
    """Every write that takes a value, those that are refused as well. Their answers."""
    first, second, third = VALUES
    created = api.post("/provider-keys", {"providerId": "openai", "name": "a", "value": first})
    path = f"/provider-keys/{created.json()['id']}"

    def router(*keys, **more):
        return {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": list(keys)}], **more}]}

    inline = {"name": "inline", "value": third}
    configuration = api.post(URL, {"name": "n", "router": router(inline)})
    assert (created.status_code, configuration.status_code) == (201, 201)
    place = f"{URL}/{configuration.json()['id']}"
    taken = [
        api.post(f"{path}/rotate", {"name": "b", "value": second}),
        api.post("/provider-keys", {"providerId": "groq", "name": "a", "value": first}, idempotency_key="once"),
        api.post("/provider-keys", {"providerId": "groq", "name": "a", "value": first}, idempotency_key="once"),
        api.patch(place, {"router": router({"name": "again", "value": f" {third}\n"})}),
        api.get(path),
        api.get("/provider-keys"),
        api.get(place),
        api.get(URL),
    ]
    assert {answer.status_code for answer in taken} <= {200, 201}
    refused = [
        api.post("/provider-keys", {"providerId": first, "name": "a", "value": first}),
        api.post("/provider-keys", {"providerId": "openai", "name": 7, "value": first, first: first}),
        api.post("/provider-keys", {"providerId": "openai", "name": "a", "value": f"{first} {first}"}),
        api.post("/provider-keys", {"providerId": "openai", "name": "a", "value": [first]}),
        api.post("/provider-keys", {"providerId": "openai", "name": "a", "value": first + "x" * 4096}),
        api.post("/provider-keys", orjson.dumps({"value": first})[:-1]),
        api.post("/provider-keys", orjson.dumps({"value": first}), content_type="text/plain"),
        api.post("/provider-keys", {"providerId": "groq", "name": "b", "value": first}, idempotency_key="once"),
        api.post(f"{path}/rotate", {"name": "", "value": second}),
        api.post(f"{path}/rotate", {"name": "a", "value": second}, if_match='"stale"'),
        api.patch(path, {"value": second}),
        api.post(URL, {"name": "n", "router": router(inline, inline)}),
        api.post(URL, {"name": "n", "router": router({**inline, "id": third})}),
        api.post(URL, {"name": "n", "router": router({"id": third})}),
        api.post(URL, {"name": "n", "router": router(inline, provider=third, model=third)}),
        api.post(URL, {"name": 7, "router": third, "access": {"providers": {"allow": [third]}}}),
        api.patch(place, {"router": router(inline), "name": None}),
    ]
    assert {answer.status_code for answer in refused} <= {400, 412, 415, 422}
    return [created, configuration, *taken, *refused]


def everything_in_postgres() -> Iterator[tuple[str, bytes]]:
    """Each table's rows as text."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT row_to_json(t)::text FROM "{table}" t')
            yield f"table {table}", "\n".join(row[0] for row in cursor.fetchall()).encode()


def everything_in_redis(redis) -> Iterator[tuple[str, bytes]]:
    """Each key with what it holds."""
    readers = {
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"set": redis.smembers,
        b"zset": lambda key: redis.zrange(key, 0, -1),
        b"stream": redis.xrange,
    }
    for key in redis.scan_iter():
        yield f"Redis key {key!r}", repr((key, readers[redis.type(key)](key))).encode()


@pytest.mark.usefixtures("_published")
def test_a_marked_value_is_nowhere_but_sealed(api, redis, caplog):
    caplog.set_level(logging.DEBUG)

    with structlog.testing.capture_logs() as events:
        answers = write_everything(api)

    for answer in answers:
        assert_clean(f"the answer {answer.status_code} to {answer.request['PATH_INFO']}", answer.content)
        assert_clean("its headers", repr(answer.headers).encode())
    assert_clean("the log", "\n".join(repr(vars(record)) for record in caplog.records).encode())
    assert_clean("the log", caplog.text.encode())
    assert_clean("the log", repr(events).encode())
    found = [*everything_in_postgres(), *everything_in_redis(redis)]
    for where, content in found:
        assert_clean(where, content)
    # The search looked at something.
    assert any(b"aigpk_" in content for where, content in found if "account:" in where)
    assert any(b"sealed" in content for where, content in found if "provider" in where)


def test_a_failure_that_nobody_foresaw_does_not_tell_the_value(db, api, settings, caplog):
    caplog.set_level(logging.DEBUG)
    settings.SEALING_KEY = None

    answers = [
        api.post("/provider-keys", {"providerId": "openai", "name": "a", "value": VALUES[0]}),
        api.post(
            URL,
            {
                "name": "n",
                "router": {
                    "rules": [
                        {"provider": "openai", "steps": [{"type": "user", "keys": [{"name": "a", "value": VALUES[0]}]}]}
                    ]
                },
            },
        ),
    ]

    for answer in answers:
        assert answer.status_code == 500
        assert answer.json()["errorCode"] == "internal_error"
        assert_clean("the answer", answer.content)
    assert "SEALING_PUBLIC_KEY is not set" in caplog.text
    assert_clean("the log", caplog.text.encode())
