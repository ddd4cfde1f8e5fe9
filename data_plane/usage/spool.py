"""Usage on disk for the moment between an answer and Redis: what a killed worker had not sent, the next one sends.

Each process appends its events to a file of its own and holds a lock on it; a file that nobody holds is of a process
that is gone. Writing goes to the system's page cache, which outlives the process (not the machine), and takes some
microseconds. An event may be sent twice that way, and counts once by its ID.

Source: docs/decisions/0061-ingest.md.
"""

import fcntl
import os
import secrets
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger("data_plane.usage.spool")

_SUFFIX: Final = ".usage"
_SEGMENT_EVENTS: Final = 2_000
_LARGEST: Final = 64 * 1024 * 1024


class _Segment:
    """One file, with how many of its events are not in Redis yet."""

    __slots__ = ("descriptor", "path", "unsent")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.unsent = 0

    def remove(self) -> None:
        with suppress(OSError):
            self.path.unlink()
        os.close(self.descriptor)


class Spool:
    """This process's part of a directory. Events leave it in the order in which they came."""

    def __init__(self, directory: Path) -> None:
        """
        Args:
            directory: made if need be, for this user alone; several workers may share it.

        Raises:
            OSError: nothing can be written there.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._segments: deque[_Segment] = deque()
        self._in_newest = 0
        self._is_failing = False

    def recover(self, limit: int) -> list[bytes]:
        """The events that processes which are gone had not sent. They are confirmed before any new one.

        Args:
            limit: no further file is taken once so many events were found; the next worker to start may take it.
        """
        found: list[bytes] = []
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            if len(found) >= limit:
                break
            segment = _take_over(path)
            if segment is None:
                continue
            # An event that was torn by a full disk is not JSON; its reader drops it.
            lines = [line for line in os.read(segment.descriptor, _LARGEST).split(b"\n") if line]
            segment.unsent = len(lines)
            if lines:
                self._segments.append(segment)
                found += lines
            else:
                segment.remove()
        self._in_newest = _SEGMENT_EVENTS  # the first new event begins a file of its own
        return found

    def append(self, event: bytes) -> None:
        """Write an event down. A disk that does not take it costs nothing but its safety."""
        try:
            if not self._segments or self._in_newest >= _SEGMENT_EVENTS:
                self._begin_segment()
            # The line end stands first, so that what was torn before spoils only itself.
            os.write(self._segments[-1].descriptor, b"\n" + event)
        except OSError as fault:
            if not self._is_failing:
                log.warning("usage cannot be written to disk", fault=type(fault).__name__)
            self._is_failing = True
        else:
            self._is_failing = False
        if not self._segments:
            return
        self._segments[-1].unsent += 1
        self._in_newest += 1

    def confirm(self, count: int) -> None:
        """The oldest so many events are in Redis."""
        while count and self._segments:
            oldest = self._segments[0]
            part = min(count, oldest.unsent)
            oldest.unsent -= part
            count -= part
            if oldest.unsent:
                break
            if len(self._segments) > 1 or self._in_newest >= _SEGMENT_EVENTS:
                self._segments.popleft().remove()
            else:
                with suppress(OSError):
                    os.ftruncate(oldest.descriptor, 0)
                self._in_newest = 0
                break

    def close(self) -> None:
        """Leave what is not sent to the next worker."""
        for segment in self._segments:
            if segment.unsent:
                os.close(segment.descriptor)
            else:
                segment.remove()
        self._segments.clear()

    def _begin_segment(self) -> None:
        path = self._directory / f"{os.getpid()}-{secrets.token_hex(8)}{_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._segments.append(_Segment(path, descriptor))
        self._in_newest = 0


def _take_over(path: Path) -> _Segment | None:
    """The file of a process that is gone; None for one of a living process."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return _Segment(path, descriptor)
