"""What a worker holds, on disk, so that it may start while Redis is away: the form of the file, and its place.

A file is

    offset   0  an envelope of 104 bytes (gateway_core.envelopes): its version is when what follows was last in
                sync (microseconds since 1970), its body the SHA-256 of everything after it
    offset 104  parts, each a length (4 bytes, big-endian) and then MessagePack: one `FileHeader`, then the `Part`s

Documents stand in it in the envelopes in which the control plane published them, sealed values sealed. The file is
written beside its place, synced and renamed, so that there is always a whole one or none.

Workers share a directory. Each writes a file of its own, the first that no living process has locked, and each may
start from the newest of all.

Source: docs/decisions/0054-snapshot-files.md.
"""

import fcntl
import hashlib
import hmac
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
import structlog

from data_plane.state.store import WorkerState
from gateway_core.envelopes import BODY_OFFSET, DocumentKeys, NotAuthentic, OpenedEnvelope, Purpose
from gateway_core.snapshot import CATALOG, Keys, token_document

log = structlog.get_logger("data_plane.state.snapshot_file")

_FORM: Final = 1
_SUFFIX: Final = ".snapshot"
_PLACES: Final = 64
_DIGEST_BYTES: Final = 32
_BEGIN: Final = BODY_OFFSET + _DIGEST_BYTES
_LARGEST: Final = 1024 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")
# Documents in a part: what is packed before other requests get their turn.
_AT_ONCE: Final = 500
_MICROSECONDS: Final = 1_000_000
# A clock that was set back by more than this says nothing about a file's age.
_AHEAD_SECONDS: Final = 60.0
_TOKEN: Final = token_document("")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class FileRefused(Exception):
    """A snapshot file that is of no use, and why."""


class Moment(msgspec.Struct, frozen=True):
    """A point in time by two clocks: one that people set, and one that goes on evenly until the machine ends."""

    # Microseconds since 1970.
    wall: int
    # Seconds of this boot, and which boot that is ("" where the system does not say).
    uptime: float = 0.0
    boot: str = ""

    @classmethod
    def now(cls, *, seconds_ago: float = 0.0) -> "Moment":
        """Now, or some seconds ago."""
        wall = time.time_ns() // 1000 - round(seconds_ago * _MICROSECONDS)
        try:
            boot = _BOOT_ID.read_text().strip()
            return cls(wall, time.clock_gettime(time.CLOCK_BOOTTIME) - seconds_ago, boot)
        except (OSError, AttributeError):
            return cls(wall)

    def seconds_until(self, later: "Moment") -> float:
        """How many seconds lie between this moment and a later one, told as exactly as can be.

        Raises:
            FileRefused: the clock was set back; nobody knows.
        """
        if self.boot and self.boot == later.boot:
            return max(0.0, later.uptime - self.uptime)
        seconds = (later.wall - self.wall) / _MICROSECONDS
        if seconds < -_AHEAD_SECONDS:
            raise FileRefused("it is from the future: the clock was set back, and its age cannot be told")
        return max(0.0, seconds)


class Document(NamedTuple):
    """A document as the file holds it. No envelope: it was deleted at this version."""

    name: str
    version: Annotated[int, msgspec.Meta(ge=0)]
    envelope: bytes | None


class FileHeader(msgspec.Struct, frozen=True):
    """Where the change stream stood, and when Redis was last in sync."""

    epoch: str
    position: int
    in_sync: Moment


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Some documents of an account, its tokens among them (or of the catalog). An account may have many parts."""

    account: str
    version: Annotated[int, msgspec.Meta(ge=1)]
    # Documents that were refused without a last good one.
    unfit: tuple[str, ...]
    documents: tuple[Document, ...]


class FileAccount:
    """An account as a file holds it."""

    __slots__ = ("documents", "is_overtaken", "tokens", "unfit", "version")

    def __init__(self) -> None:
        self.version = 1
        # Redis told of a change since: it serves no more, and is good for comparisons only.
        self.is_overtaken = False
        self.unfit: set[str] = set()
        self.documents: list[Document] = []
        # By digest.
        self.tokens: dict[str, Document] = {}


class FileContents:
    """What a file held, not yet verified document by document."""

    def __init__(self, head: FileHeader, age: float) -> None:
        self.head = head
        # Seconds since it was in sync.
        self.age = age
        self.catalog: list[Document] = []
        self.accounts: dict[str, FileAccount] = {}
        self.account_of: dict[str, str] = {}

    def add(self, part: Part) -> None:
        """Take in one part."""
        if part.account == CATALOG:
            self.catalog += part.documents
            return
        account = self.accounts.setdefault(part.account, FileAccount())
        account.version = max(account.version, part.version)
        account.unfit.update(part.unfit)
        for document in part.documents:
            if document.name.startswith(_TOKEN):
                digest = document.name.removeprefix(_TOKEN)
                account.tokens[digest] = document
                self.account_of[digest] = part.account
            else:
                account.documents.append(document)

    def token(self, digest: str) -> Document | None:
        """A token's document."""
        account = self.account_of.get(digest)
        return None if account is None else self.accounts[account].tokens[digest]

    def take_token(self, digest: str) -> Document | None:
        """A token's document, which is no longer kept then."""
        account = self.account_of.pop(digest, None)
        return None if account is None else self.accounts[account].tokens.pop(digest)

    def overtake(self, account: str) -> None:
        """An account has changed since."""
        if account in self.accounts:
            self.accounts[account].is_overtaken = True

    def forget(self, account: str) -> None:
        """Keep nothing of an account any more."""
        gone = self.accounts.pop(account, None)
        for digest in gone.tokens if gone is not None else ():
            del self.account_of[digest]


def parts_of(store: WorkerState) -> Iterator[Part]:
    """Everything that a store holds. It may change between two parts: an account's tokens come first, the rest of it
    and its version together at the end, so that no document is newer than the version that stands with it.
    """
    catalog = store.catalog_documents.items()
    yield Part(CATALOG, 1, (), tuple(Document(name, read.version, read.envelope) for name, read in catalog))
    for account in list(store.accounts.values()):
        digests = list(account.tokens)
        for start in range(0, len(digests), _AT_ONCE):
            found = [(digest, store.tokens.get(digest)) for digest in digests[start : start + _AT_ONCE]]
            tokens = tuple(Document(token_document(one), held.version, held.envelope) for one, held in found if held)
            yield Part(account.id, 1, (), tokens)
        documents = tuple(Document(name, read.version, read.envelope) for name, read in account.documents.items())
        yield Part(account.id, max(account.snapshot.version, 1), tuple(account.unfit), documents)


class SnapshotFiles:
    """A directory of snapshot files, and this process's own one in it. Nothing here knows the event loop."""

    def __init__(self, directory: Path, keys: Keys, document_keys: DocumentKeys) -> None:
        """
        Args:
            directory: made at the first write if need be, for this user alone.
            keys: names the deployment: a file of another one is refused.
            document_keys: what signs and verifies.
        """
        self._directory = directory
        self._location = f"{keys.prefix}snapshot file {_FORM}"
        self._document_keys = document_keys
        self._path: Path | None = None
        self._lock = -1

    # ── reading ──

    def find(self, *, staleness: float) -> FileContents | None:
        """The newest state that can be used. Each file that cannot is told of in the log, and costs nothing else.

        Args:
            staleness: the age in seconds from which on a state is of no use.
        """
        now = Moment.now()
        for path in sorted(self._directory.glob(f"*{_SUFFIX}"), key=self._in_sync_at, reverse=True):
            try:
                return self._read_contents(path, now=now, staleness=staleness)
            except (FileRefused, OSError) as fault:
                log.warning("a snapshot file was refused", path=str(path), reason=str(fault))
        return None

    def _in_sync_at(self, path: Path) -> int:
        try:
            return self._verify(_read(path, _BEGIN)).version
        except (FileRefused, OSError):
            return -1

    def _verify(self, header: bytes) -> OpenedEnvelope:
        try:
            return self._document_keys.verify(Purpose.SNAPSHOT_FILE, self._location, header)
        except NotAuthentic as fault:
            raise FileRefused(str(fault)) from None

    def _read_contents(self, path: Path, *, now: Moment, staleness: float) -> FileContents:
        content = memoryview(_read(path, _LARGEST + 1))
        if len(content) > _LARGEST:
            raise FileRefused(f"it is larger than {_LARGEST} bytes")
        digest = self._verify(bytes(content[:_BEGIN])).body
        if not hmac.compare_digest(digest, hashlib.sha256(content[_BEGIN:]).digest()):
            raise FileRefused("its content is not what was signed")
        try:
            pieces = _pieces(content[_BEGIN:])
            head = _head_decoder.decode(next(pieces))
            contents = FileContents(head, head.in_sync.seconds_until(now))
            if contents.age >= staleness:
                raise FileRefused(f"it was last in sync {round(contents.age)} seconds ago")
            for piece in pieces:
                contents.add(_part_decoder.decode(piece))
        except (msgspec.DecodeError, StopIteration, struct.error) as fault:
            raise FileRefused(f"its content is not of this release: {type(fault).__name__}") from None
        return contents

    # ── writing ──

    def claim(self) -> None:
        """Take the first file that no living process has, for as long as this one lives.

        Raises:
            OSError: the directory cannot be written, or every place is taken.
        """
        if self._path is not None:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(_PLACES):
            lock = self._directory / f"{number}.lock"
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            self._lock = descriptor
            self._path = self._directory / f"{number}{_SUFFIX}"
            return
        raise OSError(f"{_PLACES} processes keep files there already")

    def begin(self, head: FileHeader) -> "Writing":
        """Begin to write this process's file again.

        Raises:
            OSError: as `claim`, or the disk's.
        """
        self.claim()
        assert self._path is not None  # noqa: S101 -- claimed above
        return Writing(self._path, head, self._sign)

    def _sign(self, at: int, digest: bytes) -> bytes:
        return self._document_keys.sign(Purpose.SNAPSHOT_FILE, self._location, at, digest)

    def close(self) -> None:
        """Leave the place to another process."""
        if self._path is not None:
            os.close(self._lock)
            self._path = None


class Writing:
    """A file that is being written. It counts only once it has ended."""

    def __init__(self, path: Path, head: FileHeader, sign: Callable[[int, bytes], bytes]) -> None:
        """
        Raises:
            OSError: the disk's.
        """
        self._path = path
        self._beside = path.with_suffix(".new")
        self._head = head
        self._sign = sign
        self._digest = hashlib.sha256()
        # What a process that was killed left there is this one's to remove: it holds the place's lock.
        self._beside.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(self._beside, flags, 0o600), "wb")
        self._file.write(bytes(_BEGIN))
        self._put(_encoder.encode(head))

    def add(self, part: Part) -> None:
        """Write one part.

        Raises:
            OSError: the disk's.
        """
        self._put(_encoder.encode(part))

    def _put(self, piece: bytes) -> None:
        for one in (_LENGTH.pack(len(piece)), piece):
            self._digest.update(one)
            self._file.write(one)

    def end(self) -> None:
        """Put it in its place.

        Raises:
            OSError: the disk's; what stood there before stands there still.
        """
        with self._file as file:
            file.seek(0)
            file.write(self._sign(self._head.in_sync.wall, self._digest.digest()))
            file.flush()
            os.fsync(file.fileno())
        self._beside.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def abandon(self) -> None:
        """Leave what stood there before."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._beside.unlink(missing_ok=True)


def _read(path: Path, limit: int) -> bytes:
    # Not blocking: whatever lies there under that name, a pipe say, must not keep a worker from starting.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(limit)


def _pieces(content: memoryview) -> Iterator[memoryview]:
    start = 0
    while start < len(content):
        (length,) = _LENGTH.unpack_from(content, start)
        start += _LENGTH.size
        yield content[start : start + length]
        start += length


_encoder: Final = msgspec.msgpack.Encoder()
_head_decoder: Final = msgspec.msgpack.Decoder(FileHeader)
_part_decoder: Final = msgspec.msgpack.Decoder(Part)
