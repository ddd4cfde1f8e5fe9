"""Holds: data_plane.state.snapshot_file

The snapshot file: the last known good across a worker's own restart. It helps where Redis is away, and else nothing.

Workers in this process; `tests/faults/data_plane/test_restarts.py` does the same to real ones.
"""

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import structlog

from data_plane.state.snapshot_file import Document, FileHeader, FileRefused, Moment, Part, SnapshotFiles
from gateway_core import envelopes, snapshot, tokens
from gateway_core.envelopes import DocumentKeys
from gateway_core.snapshot import CATALOG, Keys, Rule, Step
from local.stand_in import StandIn
from tests.fault_proxy import FaultProxy
from tests.patience import eventually
from tests.workers import Running, SnapshotWriter, Tenant, free_port, name_of, running, settings_of

GOOD = "sk-good-0123456789abcdefghij"
OTHER = "sk-other-0123456789abcdefghij"
DAY = 86_400.0

Start = Callable[..., Any]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where workers keep their files."""
    return tmp_path / "snapshots"


@pytest.fixture
def files(directory: Path, writer: SnapshotWriter) -> SnapshotFiles:
    """What stands there, as a worker that starts sees it."""
    return SnapshotFiles(directory, writer.names, writer.document_keys)


@pytest.fixture
def start(environ: dict[str, str], directory: Path, writer: SnapshotWriter) -> Start:
    """A worker with a file, in sync: `async with start() as worker`."""

    @asynccontextmanager
    async def begin(*, is_redis_there: bool = True, in_sync: bool = True, **changes: Any) -> AsyncIterator[Running]:
        if not is_redis_there:
            changes["redis_url"] = f"redis://127.0.0.1:{free_port()}/0"
        settings = settings_of(environ, snapshot_directory=directory, **changes)
        async with running(settings, in_sync=in_sync and is_redis_there) as worker:
            yield worker

    return begin


def the_file(directory: Path) -> Path:
    """The only file there."""
    (file,) = directory.glob("*.snapshot")
    return file


def mode(path: Path) -> int:
    """Who may do what."""
    return stat.S_IMODE(path.stat().st_mode)


def held_by(worker: Running, token: str) -> bool:
    """Whether a worker holds a token."""
    return name_of(token).removeprefix("token:") in worker.store.tokens


async def test_a_worker_started_without_redis_serves_what_one_before_it_held(
    start: Start, alice: Tenant, charlie: Tenant, upstream: StandIn
):
    key = alice.keys(GOOD, OTHER)[0]
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(key,)),))
    token, unseen = alice.token(configuration=alice.configuration(rule)), charlie.token()
    async with start() as worker:
        assert await worker.client.status(token) == 200

    async with start(is_redis_there=False) as worker:
        readiness = await worker.client.get("/readyz")
        # By a name that only the catalog knows.
        assert await worker.client.status(token, model="gpt-4o") == 200
        strange = await worker.client.chat(unseen)

    assert upstream.keys == [GOOD, GOOD]
    assert readiness.status == 200
    assert not readiness.json()["snapshot"]["isInSync"]
    assert (strange.status, strange.code) == (503, "snapshot_unavailable")
    assert int(strange.headers["retry-after"]) >= 1


async def test_without_a_file_a_worker_that_cannot_ask_redis_serves_nobody(start: Start, alice: Tenant):
    token = alice.token()

    async with start(is_redis_there=False) as worker:
        assert (await worker.client.get("/readyz")).status == 503
        assert await worker.client.status(token) == 503


async def test_what_was_deleted_while_no_worker_ran_gets_not_one_request_through(
    start: Start, alice: Tenant, upstream: StandIn
):
    """The file still has the key; Redis is there, and is asked before the file is believed."""
    alice.keys(GOOD)
    doomed, kept = alice.token(), alice.token()
    async with start() as worker:
        assert await worker.client.status(doomed) == await worker.client.status(kept) == 200
    alice.delete_token(doomed)

    # No wait for the first contact: the requests come before it.
    async with start(loading_spread=0.3, in_sync=False) as worker:
        assert worker.worker.follower.is_restoring
        assert [await worker.client.status(doomed) for _ in range(5)] == [401] * 5
        assert await worker.client.status(kept) == 200
        await eventually(lambda: not worker.worker.follower.is_restoring)
        assert await worker.client.status(doomed) == 401


async def test_a_deleted_key_and_a_removed_document_stay_away_from_the_file(
    start: Start, alice: Tenant, upstream: StandIn
):
    _, key = alice.keys(OTHER, GOOD)
    doomed, token = alice.token(), alice.token()
    async with start() as worker:
        assert await worker.client.status(doomed) == await worker.client.status(token) == 200
        alice.delete_token(doomed)
        await worker.reaches(alice.publish({snapshot.provider_key_document(key): None}))
        before = len(upstream.calls)

    async with start(is_redis_there=False) as worker:
        assert await worker.client.status(doomed) == 401
        assert await worker.client.status(token) == 200
        assert upstream.keys[before:] == [OTHER]


async def test_everything_is_read_anew_once_redis_is_there(start: Start, alice: Tenant, charlie: Tenant):
    alice.keys(GOOD), charlie.keys(OTHER)
    shown = [tenant.token() for tenant in (alice, charlie) for _ in range(3)]
    async with start() as worker:
        assert {await worker.client.status(token) for token in shown} == {200}
    doomed = shown.pop()
    number = charlie.delete_token(doomed)
    alice.settings(total_timeout="5s")

    async with start(loading_spread=1.0) as worker:
        follower = worker.worker.follower
        await eventually(lambda: follower.store.position > number)
        # Should Redis go away now, the file would serve: who waits for all workers must not count this one yet.
        assert follower.is_restoring
        assert not follower.report(0).has_applied(charlie.id, number)
        newer = charlie.settings(total_timeout="7s")
        await eventually(lambda: follower.report(0).has_applied(charlie.id, newer))
        await eventually(lambda: not follower.is_restoring)
        assert follower.report(0).has_applied(charlie.id, number)

        assert all(held_by(worker, token) for token in shown)
        assert worker.store.accounts[alice.id].snapshot.settings.total_timeout == 5
        assert not any(account.is_stale for account in worker.store.accounts.values())
        assert worker.store.refusals == 0
        assert await worker.client.status(doomed) == 401


async def test_what_redis_has_older_than_the_file_is_refused(
    start: Start, writer: SnapshotWriter, alice: Tenant, upstream: StandIn
):
    """The fences outlive the worker: a replica that fell behind brings back neither a key nor an old value."""
    key = alice.keys(OTHER)[0]
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(key,)),))
    token, doomed = alice.token(configuration=alice.configuration(rule)), alice.token()
    older = {name: writer.redis.dump(name) for name in writer.redis.scan_iter("*") if b":workers" not in name}
    async with start() as worker:
        assert await worker.client.status(token) == await worker.client.status(doomed) == 200
        alice.rotate(key, GOOD)
        await worker.reaches(alice.delete_token(doomed))
    before = len(upstream.calls)
    writer.redis.flushall()
    for name, image in older.items():
        writer.redis.restore(name, 0, image)

    async with start(in_sync=False) as worker:
        assert await worker.client.status(token) == 200
        # That Redis has lost something: it can judge nothing that is not held.
        assert await worker.client.status(alice.token(publish=False)) == 503
        assert await worker.client.status(doomed) == 401
        # Even as a new life, in which nothing counts but the versions.
        writer.begin_epoch()
        await eventually(lambda: not worker.worker.follower.is_restoring)
        assert await worker.client.status(token) == 200
        assert await worker.client.status(doomed) == 401
        assert worker.store.refusals

    assert set(upstream.keys[before:]) == {GOOD}


async def test_a_deletion_in_the_file_is_not_undone_by_an_older_redis(
    start: Start, writer: SnapshotWriter, alice: Tenant
):
    """The first that this worker hears of the key is the old document in Redis."""
    alice.keys(GOOD)
    doomed = alice.token()
    place = writer.names.token(tokens.digest(doomed))
    older = writer.redis.get(place)
    async with start() as worker:
        assert await worker.client.status(doomed) == 200
        await worker.reaches(alice.delete_token(doomed))
    writer.redis.set(place, older)

    async with start() as worker:
        assert await worker.client.status(doomed) == 401
        await eventually(lambda: not worker.worker.follower.is_restoring)
        assert await worker.client.status(doomed) == 401


async def test_what_redis_told_of_is_not_served_from_the_file_when_redis_goes_away_again(
    start: Start, writer: SnapshotWriter, alice: Tenant, charlie: Tenant, redis_url: str
):
    """Redis is there for a moment, in which nothing is read again yet and one key is deleted."""
    alice.keys(GOOD), charlie.keys(OTHER)
    doomed, kept = alice.token(), charlie.token()
    async with start() as worker:
        assert await worker.client.status(doomed) == await worker.client.status(kept) == 200

    parts = urlsplit(redis_url)
    async with FaultProxy(parts.port or 0) as proxy:
        await proxy.set(is_down=True)
        behind = parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{proxy.port}").geturl()
        async with start(redis_url=behind, in_sync=False) as worker:
            follower = worker.worker.follower
            await eventually(follower.sync.has_asked.is_set)
            # From now on nothing is read anew by itself, for want of a better moment.
            follower.loader.spread = 3600
            follower.tasks.pop().cancel()
            await proxy.heal()
            await eventually(lambda: follower.is_in_sync)
            await worker.reaches(alice.delete_token(doomed))
            await proxy.set(is_down=True)
            await eventually(lambda: not follower.is_in_sync)

            assert await worker.client.status(doomed) == 503
            assert await worker.client.status(kept) == 200


async def test_the_file_holds_no_secret_and_is_its_users_alone(
    start: Start, alice: Tenant, directory: Path, environ: dict[str, str]
):
    alice.keys(GOOD)
    token = alice.token()
    async with start() as worker:
        await worker.client.status(token)

    content = the_file(directory).read_bytes()
    for secret in (GOOD, token, environ["SEALING_PRIVATE_KEYS"], environ["DOCUMENT_KEYS"].partition(":")[2]):
        assert secret.encode() not in content
    assert mode(the_file(directory)) == 0o600
    assert mode(directory) == 0o700
    assert len(os.listdir(directory)) == 2  # noqa: PTH208 -- the file and its lock


async def test_a_change_is_on_disk_soon_and_not_only_at_the_end(start: Start, alice: Tenant, files: SnapshotFiles):
    alice.keys(GOOD)
    token, doomed = alice.token(), alice.token()
    digest = name_of(doomed).removeprefix("token:")

    def is_kept() -> bool | None:
        kept = files.find(staleness=DAY)
        document = kept.token(digest) if kept is not None else None
        return None if document is None else document.envelope is not None

    async with start() as worker:
        await worker.client.status(token), await worker.client.status(doomed)
        await eventually(is_kept)
        alice.delete_token(doomed)
        await eventually(lambda: is_kept() is False)


async def test_workers_that_share_a_directory_keep_a_file_each_and_start_from_the_newest(
    start: Start, alice: Tenant, charlie: Tenant, directory: Path
):
    alice.keys(GOOD), charlie.keys(OTHER)
    ours, theirs = alice.token(), charlie.token()
    async with start() as first, start() as second:
        assert await first.client.status(ours) == 200
        assert await second.client.status(ours) == await second.client.status(theirs) == 200
        await eventually(lambda: len(list(directory.glob("*.snapshot"))) == 2)
        await second.worker.keeper.close(second.worker.follower)
        await first.worker.keeper.close(first.worker.follower)
        # Closed last, and so the newest; the second one wrote before.
        (directory / "0.snapshot").write_bytes(b"damaged")

        async with start(is_redis_there=False) as third:
            assert await third.client.status(ours) == await third.client.status(theirs) == 200


async def test_a_file_is_not_written_anew_before_what_it_held_is_read_anew(
    start: Start, alice: Tenant, directory: Path
):
    """A worker that served from the file for an hour must not make it an hour younger."""
    alice.keys(GOOD)
    used, unused = alice.token(), alice.token()
    async with start() as worker:
        await worker.client.status(used), await worker.client.status(unused)
    file = the_file(directory)
    before = file.read_bytes()

    async with start(is_redis_there=False) as worker:
        assert await worker.client.status(used) == 200
        await asyncio.sleep(1.2)
    assert file.read_bytes() == before

    async with start(is_redis_there=False) as worker:
        assert await worker.client.status(unused) == 200


async def test_a_state_beyond_its_staleness_is_refused_at_the_start_and_later(start: Start, alice: Tenant):
    alice.keys(GOOD)
    token = alice.token()
    async with start() as worker:
        assert await worker.client.status(token) == 200
    await asyncio.sleep(0.3)

    async with start(is_redis_there=False, staleness=0.2) as worker:
        assert not worker.worker.follower.is_restoring
        assert await worker.client.status(token) == 503

    async with start(is_redis_there=False, staleness=5.0) as worker:
        assert await worker.client.status(token) == 200
        await eventually(lambda: not worker.worker.follower.is_usable)
        answer = await worker.client.chat(token)
        assert (answer.status, answer.code) == (503, "snapshot_stale")


@pytest.fixture
def blocked(directory: Path) -> Path:
    """Something else stands where the directory should be."""
    directory.write_text("not a directory")
    return directory


async def test_a_directory_that_cannot_be_written_costs_the_file_and_nothing_else(
    start: Start, alice: Tenant, blocked: Path
):
    alice.keys(GOOD)

    with structlog.testing.capture_logs() as told:
        async with start() as worker:
            assert await worker.client.status(alice.token()) == 200
            await asyncio.sleep(2.5)

    assert [one["event"] for one in told].count("the snapshot cannot be written to disk") == 1


async def test_documents_that_need_a_later_release_are_judged_anew_by_each_release(
    start: Start, alice: Tenant, files: SnapshotFiles
):
    """The envelopes are the control plane's own: what this release does not understand is not lost in the file."""

    class Later(msgspec.Struct, rename="camel"):
        account: str
        access_key: str
        must_understand: tuple[str, ...] = ("onlyAtNight",)
        only_at_night: bool = True

    alice.keys(GOOD)
    token = alice.token()
    async with start() as worker:
        assert await worker.client.status(token) == 200
        later = Later(alice.id, "aigk_01h455vb4pex5vsknk084sn02q")
        await worker.reaches(alice.publish({name_of(token): later}))
        assert await worker.client.status(token) == 503

    kept = files.find(staleness=DAY)
    document = kept.token(name_of(token).removeprefix("token:"))
    assert b"onlyAtNight" in document.envelope
    async with start(is_redis_there=False) as worker:
        assert await worker.client.status(token) == 503


async def test_an_account_that_was_unfit_is_unfit_from_the_file_too(
    start: Start, writer: SnapshotWriter, alice: Tenant
):
    """A denial for want of a document that was refused is no denial: 503, here as there."""
    key = alice.keys(GOOD)[0]
    writer.redis.hset(writer.names.account(alice.id), snapshot.provider_key_document(key), b"garbage")
    token = alice.token()
    async with start() as worker:
        assert await worker.client.status(token) == 503

    async with start(is_redis_there=False) as worker:
        assert (await worker.client.chat(token)).code == "snapshot_unfit"


# ── the file itself ──


def write(files: SnapshotFiles, head: FileHeader, *parts: Part) -> Path:
    """A file with these parts."""
    writing = files.begin(head)
    for part in parts:
        writing.add(part)
    writing.end()
    files.close()
    assert files._path is None
    return next(iter(sorted(files._directory.glob("*.snapshot"))))


@pytest.fixture
def whole(files: SnapshotFiles, alice: Tenant) -> Path:
    """A small file, with what a file may hold."""
    settings = alice.envelope(snapshot.SETTINGS_DOCUMENT, snapshot.SettingsDocument(), version=5)
    token = alice.envelope("token:00", alice.token_document(), version=6)
    models = alice.writer.sign(CATALOG, "models", snapshot.ManagedKeysDocument(keys={}), 7)
    return write(
        files,
        FileHeader(alice.writer.epoch, 12, Moment.now()),
        Part(CATALOG, 1, (), (Document("models", 7, models),)),
        Part(alice.id, 1, (), (Document("token:00", 6, token), Document("token:01", 4, None))),
        Part(alice.id, 8, ("provider:lab",), (Document(snapshot.SETTINGS_DOCUMENT, 5, settings),)),
    )


def test_a_file_gives_back_what_was_written(files: SnapshotFiles, whole: Path, alice: Tenant):
    kept = files.find(staleness=DAY)

    assert kept is not None
    assert (kept.head.epoch, kept.head.position) == (alice.writer.epoch, 12)
    assert kept.age < 60
    assert [document.name for document in kept.catalog] == ["models"]
    (account,) = kept.accounts.values()
    assert (account.version, account.unfit) == (8, {"provider:lab"})
    assert set(account.tokens) == {"00", "01"}
    assert kept.take_token("01") == Document("token:01", 4, None)
    assert kept.token("01") is None
    kept.forget(alice.id)
    assert not kept.account_of


def test_whatever_is_cut_off_or_flipped_in_a_file_it_is_refused_and_said_once(files: SnapshotFiles, whole: Path):
    """100 truncations and 1,000 flipped bits: each of them is noticed, none of them raises."""
    good = whole.read_bytes()
    bits = len(good) * 8
    damaged = [good[: len(good) * place // 100] for place in range(100)]
    for place in range(1000):
        bit = place * bits // 1000
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    damaged.append(good + b"\x00")

    for content in damaged:
        whole.write_bytes(content)
        with structlog.testing.capture_logs() as told:
            assert files.find(staleness=DAY) is None
        assert [one["event"] for one in told] == ["a snapshot file was refused"]

    whole.write_bytes(good)
    assert files.find(staleness=DAY) is not None


def test_a_file_of_other_keys_or_of_another_deployment_is_refused(files: SnapshotFiles, whole: Path, directory: Path):
    foreign = DocumentKeys.parse(envelopes.generate_document_key())

    assert SnapshotFiles(directory, Keys("gw"), foreign).find(staleness=DAY) is None
    assert SnapshotFiles(directory, Keys("another"), files._document_keys).find(staleness=DAY) is None


def test_what_is_no_file_under_a_files_name_keeps_no_worker_from_starting(directory: Path, files: SnapshotFiles):
    directory.mkdir()
    (directory / "0.snapshot").mkdir()
    os.mkfifo(directory / "1.snapshot")
    (directory / "2.snapshot").symlink_to("/dev/zero")

    assert files.find(staleness=DAY) is None


def test_what_a_killed_worker_left_half_written_is_in_nobodys_way(files: SnapshotFiles, whole: Path, directory: Path):
    good = whole.read_bytes()
    (directory / "0.new").write_bytes(b"half")

    assert whole.read_bytes() == good
    assert files.find(staleness=DAY).head.position == 12
    write(files, FileHeader("", 99, Moment.now()))
    assert files.find(staleness=DAY).head.position == 99


@pytest.mark.parametrize(
    ("then", "now", "age"),
    [
        pytest.param(Moment(10_000_000), Moment(70_000_000), 60.0, id="the wall's clock"),
        pytest.param(Moment(70_000_000), Moment(40_000_000), 0.0, id="a clock that was put right by some seconds"),
        pytest.param(Moment(7_200_000_000), Moment(0), None, id="a clock that was set back"),
        pytest.param(Moment(0, 10.0, "a"), Moment(9, 70.0, "a"), 60.0, id="one boot: the even clock, not the wall's"),
        pytest.param(Moment(7_200_000_000, 10.0, "a"), Moment(0, 30.0, "a"), 20.0, id="one boot, and set back"),
        pytest.param(Moment(0, 500.0, "a"), Moment(90_000_000, 3.0, "b"), 90.0, id="another boot"),
        pytest.param(Moment(7_200_000_000, 5.0, "a"), Moment(0, 9.0, "b"), None, id="another boot, and set back"),
    ],
)
def test_a_files_age_is_told_by_the_clock_that_tells_it_best_or_not_at_all(
    then: Moment, now: Moment, age: float | None
):
    if age is None:
        with pytest.raises(FileRefused, match="set back"):
            then.seconds_until(now)
    else:
        assert then.seconds_until(now) == age


def test_a_moment_some_time_ago_is_so_by_both_clocks():
    before, now = Moment.now(seconds_ago=100), Moment.now()

    assert before.seconds_until(now) == pytest.approx(100, abs=5)
    assert now.wall - before.wall == pytest.approx(100_000_000, abs=5_000_000)
    assert abs(now.wall / 1_000_000 - time.time()) < 60
