"""Holds: data_plane.state.store

Publications, loads, gaps, new epochs and replays in any order: nothing old comes back, no claim comes too early.
"""

from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from data_plane.state.documents import DocumentReader
from data_plane.state.store import Loading, WorkerState
from gateway_core import envelopes, snapshot
from gateway_core.envelopes import DocumentKeys, Purpose
from gateway_core.snapshot import ChangeDocument, Keys, SettingsDocument, TokenDocument
from gateway_core.worker_reports import WorkerReport, behind_of
from tests import tiers

KEYS = Keys("gw")
DOCUMENT_KEYS = DocumentKeys.parse(envelopes.generate_document_key())
ACCOUNT = "ac_01h455vb4pex5vsknk084sn02q"
DIGEST = "0" * 64
TOKEN = snapshot.token_document(DIGEST)
WHAT = st.sampled_from(["settings", "token", "deletion"])


class Read(NamedTuple):
    """What a load has read of Redis, and where Redis stood."""

    loading: Loading
    number: int
    version: int
    fields: dict[str, bytes]
    token: bytes | None


class Following(RuleBasedStateMachine):
    """One account with settings and a token; Redis is modelled, the store is real."""

    def __init__(self) -> None:
        super().__init__()
        self.store = WorkerState(DocumentReader(KEYS, DOCUMENT_KEYS))
        self.number = self.version = 0
        self.epochs = 1
        # Redis: the account's hash, the token, and the stream.
        self.fields: dict[str, bytes] = {}
        self.token: bytes | None = None
        self.stream: dict[int, bytes] = {}
        # Each publication's number with what it was of and its version.
        self.publications: dict[int, tuple[str, int]] = {}
        self.reads: list[Read] = []
        self.newest_held = {"account": 0, "token": 0}
        self.store.start_at("epoch 1", 0)
        self.publish("settings", is_partial=False)

    @rule(what=WHAT, is_partial=st.booleans())
    def publish(self, what: str, is_partial: bool) -> None:
        """One publication, as the script writes it."""
        self.number += 1
        self.version += 1
        name = "settings" if what == "settings" else TOKEN
        envelope = None if what == "deletion" else self._sign(name)
        if what == "settings" and envelope is not None:
            self.fields[name] = envelope
        elif what != "settings":
            self.token = envelope
        documents: dict[str, bytes | None] = {} if is_partial else {name: envelope}
        body = snapshot.encode(ChangeDocument(documents=documents, is_partial=is_partial))
        self.stream[self.number] = DOCUMENT_KEYS.sign(Purpose.CHANGE, KEYS.change(ACCOUNT), self.version, body)
        self.publications[self.number] = (what, self.version)

    @rule(data=st.data())
    def lose_an_entry(self, data: st.DataObject) -> None:
        """It is trimmed away, or never arrives."""
        lost = data.draw(st.sampled_from(sorted(self.stream)))
        if lost != self.number:
            self.stream.pop(lost)

    @rule(data=st.data())
    def put_an_old_entry_back(self, data: st.DataObject) -> None:
        """Somebody who can write Redis repeats what once was."""
        old = self.stream[data.draw(st.sampled_from(sorted(self.stream)))]
        self.number += 1
        self.stream[self.number] = old

    @rule(count=st.integers(1, 4))
    def follow(self, count: int) -> None:
        """The follower's own steps."""
        for number in [each for each in sorted(self.stream) if each > self.store.position][:count]:
            if number != self.store.position + 1:
                self.store.start_at(self.store.epoch or "", number)
            else:
                self.store.pass_entry(number, ACCOUNT, self.stream[number])

    @rule()
    def begin_another_epoch(self) -> None:
        """Redis was rebuilt."""
        self.epochs += 1
        self.store.start_at(f"epoch {self.epochs}", self.number)

    @rule()
    def begin_a_load(self) -> None:
        """The position is noted, then Redis is read."""
        loading = self.store.start_loading()
        self.reads.append(Read(loading, self.number, self.version, dict(self.fields), self.token))

    @precondition(lambda self: self.reads)
    @rule(data=st.data())
    def end_a_load(self, data: st.DataObject) -> None:
        """Any of the loads under way ends, once the store has passed where Redis was read."""
        read = self.reads.pop(data.draw(st.integers(0, len(self.reads) - 1)))
        store = self.store
        if store.position >= read.number and store.is_continued(read.loading):
            contents, _ = store.reader.contents(ACCOUNT, read.version, read.fields.items())
            if store.install_account(read.loading, ACCOUNT, contents) and not store.accounts[ACCOUNT].is_stale:
                token = None if read.token is None else store.reader.document(ACCOUNT, TOKEN, read.token)
                if not any(change.is_partial for change in read.loading.changes_of(ACCOUNT)):
                    store.install_tokens(read.loading, ACCOUNT, {DIGEST: token})
        store.end_loading(read.loading)

    @invariant()
    def nothing_old_comes_back(self) -> None:
        """Versions that are held only rise."""
        for what, version in self._held().items():
            assert version >= self.newest_held[what]
            self.newest_held[what] = version

    @invariant()
    def what_is_said_to_be_applied_is_in_force(self) -> None:
        """The report's claim, against the state."""
        if ACCOUNT not in self.store.accounts:
            return
        report = WorkerReport(
            id="", host="", process=0, started_at=0, heartbeat_at=0,
            position=self.store.position, behind=behind_of(self.store.behind),
        )  # fmt: skip
        held = self._held()
        for number, (what, version) in self.publications.items():
            if report.has_applied(ACCOUNT, number):
                assert held["account"] >= version
                if what != "settings" and DIGEST in self.store.tokens:
                    assert held["token"] >= version

    def _held(self) -> dict[str, int]:
        account, token = self.store.accounts.get(ACCOUNT), self.store.tokens.get(DIGEST)
        found: dict[str, int] = {}
        if account is not None:
            found["account"] = account.snapshot.version
        if token is not None:
            found["token"] = token.version
        return found

    def _sign(self, name: str) -> bytes:
        document: Any = SettingsDocument(total_timeout=f"{self.version}s")
        if name == TOKEN:
            document = TokenDocument(account=ACCOUNT, access_key="aigk_01h455vb4pex5vsknk084sn02q")
        return DOCUMENT_KEYS.sign(
            Purpose.DOCUMENT, KEYS.location(ACCOUNT, name), self.version, snapshot.encode(document)
        )


def test_in_no_order_of_events_comes_an_old_value_back_or_is_one_claimed_to_be_applied() -> None:
    run_state_machine_as_test(
        Following, settings=settings(max_examples=tiers.number(40, full=150), stateful_step_count=30)
    )
