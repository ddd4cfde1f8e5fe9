"""Holds: gateway_admin.broker, gateway_admin.settings

Somebody who can write Redis puts messages on Celery's queue: none is carried out, and none ends the worker.
"""

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from redis import Redis

from gateway_admin.broker import signature_of
from gateway_admin.celery import app
from tests.faults.conftest import Program, child
from tests.patience import wait_until

__all__ = ["child"]

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = "{gw}:celery:tasks"
GARBAGE = (b"", b"garbage", b"[]", b"{}", b"null", b"7", b"\xff\xfe", b"[" * 3000, b'{"body":"x"}', b'{"headers":null}')


def message(task: str, *arguments: object, **headers: Any) -> dict[str, Any]:
    """A message as Celery writes it, without a signature."""
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([arguments, {}, embedded]).encode()
    common = {"lang": "py", "task": task, "id": secrets.token_hex(8), "retries": 0, "eta": None, "expires": None}
    tag = secrets.token_hex(8)
    return {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": headers.pop("content_type", "application/json"),
        "headers": common | {"timelimit": [None, None], "argsrepr": "", "kwargsrepr": "", "group": None} | headers,
        "properties": {"correlation_id": "x", "delivery_info": {"exchange": "", "routing_key": "tasks"}}
        | {"body_encoding": "base64", "delivery_tag": tag, "delivery_mode": 2, "priority": 0},
    }


FORGED = (
    message("usage.ingest"),
    message("os.system", "id"),
    message("usage.ingest", 1, 2),
    message("usage.ingest", content_type="application/x-python-serialize"),
    message("usage.ingest", eta="2100-01-01T00:00:00"),
    message("usage.ingest", eta="nonsense"),
    # This one ended the worker before messages were signed.
    message("usage.ingest", timelimit="x"),
    message("usage.ingest", retries="x"),
    message("usage.ingest") | {"gateway-signature": "0" * 64},
    message("usage.ingest") | {"gateway-signature": None},
)


def count(log: Path, text: str) -> int:
    """How often a worker's log says something."""
    return log.read_text().count(text)


def test_a_celery_worker_throws_away_what_is_not_signed_and_works_on(
    redis: Redis, child: Program, tmp_path: Path
) -> None:
    log = tmp_path / "celery.log"
    worker = child("-m", "celery", "-A", "gateway_admin", "worker", "--loglevel", "INFO", "--concurrency", "1",
                   "--without-gossip", "--without-mingle", "--logfile", str(log))  # fmt: skip
    wait_until(lambda: log.exists() and count(log, " ready."), what="Celery is ready")
    sent = message("usage.expire_credits")
    signed = sent | {"gateway-signature": signature_of(sent)}
    changed = {**signed, "headers": signed["headers"] | {"task": "usage.ingest"}}

    for forged in GARBAGE:
        redis.lpush(QUEUE, forged)
    for made in (*FORGED, changed):
        redis.lpush(QUEUE, json.dumps(made))
    # A command of Celery's remote control, and a queue of another type for a moment.
    redis.publish("{gw}:celery:/0.celery.pidbox", json.dumps(message("x") | {"method": "shutdown"}))
    wait_until(lambda: count(log, "thrown away") == len(GARBAGE) + len(FORGED) + 1, what="all are thrown away")
    redis.set(QUEUE, "x")
    wait_until(lambda: count(log, "Trying to re-establish"), what="Celery notices the wrong type")
    redis.delete(QUEUE)
    # Sent twice: it is carried out twice, and no more than that.
    for _ in range(2):
        redis.lpush(QUEUE, json.dumps(signed))
    wait_until(lambda: count(log, "succeeded") == 2, what="what is signed is carried out")

    assert worker.process.poll() is None
    assert count(log, "received") == 2
    assert count(log, "Unrecoverable") == 0


def test_a_message_of_ours_is_signed_and_one_that_is_put_back_still_is(redis: Redis) -> None:
    app.send_task("usage.ingest")

    raw: Any = redis.rpop(QUEUE)
    sent = json.loads(raw)
    assert sent["gateway-signature"] == signature_of(sent)
    sent["headers"]["redelivered"] = True
    assert sent["gateway-signature"] == signature_of(sent)
    sent["headers"]["eta"] = "2100-01-01T00:00:00"
    assert sent["gateway-signature"] != signature_of(sent)


def test_celery_takes_no_commands_from_redis_and_tells_it_no_events(settings: LazySettings) -> None:
    assert not app.conf.worker_enable_remote_control
    assert not app.conf.worker_send_task_events
    assert app.conf.accept_content == ["json"]
    assert app.conf.broker_channel_error_retry


def test_no_task_takes_arguments() -> None:
    app.loader.import_default_modules()
    ours = [task for name, task in app.tasks.items() if not name.startswith("celery.")]

    assert len(ours) >= 5
    assert [task.name for task in ours if task.run.__code__.co_argcount > 0] == []
