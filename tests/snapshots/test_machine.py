"""Holds: snapshots.upkeep

Whatever happens, in whatever order: one look of each sort by the relay, and Redis is what PostgreSQL says.
"""

import threading
from collections.abc import Callable
from typing import Any

from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from access_keys.models import AccessKey
from accounts.models import Account
from configurations.models import Configuration
from snapshots import rebuild
from snapshots.models import Change, Publication
from snapshots.publisher import pause
from snapshots.redis_client import keys, patient_store
from snapshots.upkeep import Upkeep
from tests import tiers
from tests.snapshots.rows import (
    commit_unpublished,
    delete,
    differences,
    make_access_key,
    make_account,
    make_configuration,
    stream,
    touch,
)

ACCOUNTS = st.integers(0, 1)
WORDS = st.sampled_from(["key", "linked key", "configuration", "link", "unlink", "delete"])


class Publishing(RuleBasedStateMachine):
    """Two accounts, written to while Redis and publishers fare badly."""

    redis: Redis

    @initialize()
    def begin(self) -> None:
        self.redis.flushall()
        Account.objects.all().delete()
        self.accounts = [make_account("Alice's"), make_account("Bob's")]
        self.older: dict[bytes, Any] = {}
        self.versions: dict[str, int] = {}
        rebuild.rebuild(patient_store())

    def teardown(self) -> None:
        if hasattr(self, "accounts"):
            self.settle()

    @rule(account=ACCOUNTS, word=WORDS)
    def write(self, account: int, word: str) -> None:
        """A request that publishes at once."""
        pause.end()
        with transaction.atomic():
            self._write(self.accounts[account], word)

    @rule(account=ACCOUNTS, word=WORDS)
    def write_and_be_killed(self, account: int, word: str) -> None:
        """Committed, and nobody there to publish."""
        commit_unpublished(lambda: self._write(self.accounts[account], word))

    @rule(account=ACCOUNTS, word=WORDS)
    def publish_and_be_killed(self, account: int, word: str) -> None:
        """Redis was written, PostgreSQL never learned of it."""
        pause.end()
        commit_unpublished(lambda: self._write(self.accounts[account], word))
        changes = list(Change.objects.filter(account=self.accounts[account]))
        publications = list(Publication.objects.filter(account=self.accounts[account]))
        Upkeep(patient_store(), threading.Event()).sweep()
        for publication in publications:
            publication.save()
        if not publications:
            Publication.objects.filter(account=self.accounts[account]).delete()
        Change.objects.filter(account=self.accounts[account]).delete()
        Change.objects.bulk_create(changes)

    @rule()
    def remember_redis(self) -> None:
        """A replica that falls behind from here on."""
        self.older = {key: self.redis.dump(key) for key in self.redis.scan_iter()}

    @precondition(lambda self: self.older)
    @rule()
    def go_back(self) -> None:
        """The replica is promoted."""
        self.redis.flushall()
        for key, value in self.older.items():
            self.redis.restore(key, 0, value)

    @rule()
    def flush(self) -> None:
        """Redis begins anew, empty."""
        self.redis.flushall()

    @rule(account=ACCOUNTS)
    def lose_account(self, account: int) -> None:
        """Part of an account is gone."""
        self.redis.delete(keys().account(self.accounts[account].text_id))

    @rule()
    def sweep(self) -> None:
        """The relay, between two harms."""
        Upkeep(patient_store(), threading.Event()).sweep()

    @rule()
    def reconcile(self) -> None:
        """The relay, between two harms."""
        Upkeep(patient_store(), threading.Event()).reconcile()

    @invariant()
    def numbers_have_no_gaps(self) -> None:
        """A worker that follows the stream can trust it."""
        numbers = [number for number, *_ in stream(self.redis)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True

    def settle(self) -> None:
        """What a relay does within a minute."""
        upkeep = Upkeep(patient_store(), threading.Event())
        for _ in range(2):
            upkeep.reconcile()
            upkeep.sweep()
            upkeep.repair_accounts()
            upkeep.compare_versions()
        assert differences() == []

    def _write(self, account: Account, word: str) -> None:
        key: Callable[[], AccessKey | None] = AccessKey.objects.filter(account=account).order_by("?").first
        match word:
            case "key":
                make_access_key(account)
            case "linked key":
                make_access_key(account, configuration=make_configuration(account))
            case "configuration":
                make_configuration(account)
            case "link":
                configuration = Configuration.objects.filter(account=account).first()
                if found := key():
                    touch(found, configuration=configuration)
            case "unlink":
                if found := key():
                    touch(found, configuration=None)
            case _:
                if found := key():
                    delete(found)


def test_whatever_happens_the_relay_makes_redis_what_postgresql_says(redis: Redis) -> None:
    machine = type("Machine", (Publishing,), {"redis": redis})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=tiers.number(5, full=25),
            stateful_step_count=12,
            suppress_health_check=list(HealthCheck),
        ),
    )
