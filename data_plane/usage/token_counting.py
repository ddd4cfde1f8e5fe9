"""What an upstream's answer says of the tokens that it took, and why it stopped; read beside the answer, never from it.

Nothing here changes what a caller gets, but for one thing: an OpenAI stream reports its usage only when asked, in its
last chunk. The worker asks always (`asking_for_usage`), and the reader takes the chunk out again for a caller who
did not.

An answer is somebody else's text: what is not as expected counts as zero. How usage is written is
gateway_core.dialects.usage. An answer or an event that is too long to hold is searched as it passes
(data_plane.usage.member_scan).

Source: docs/decisions/0060-usage-events.md, docs/decisions/0089-reading-usage.md.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from data_plane.usage.member_scan import MemberScan, Places
from data_plane.usage.reported import READING, READING_WHOLE, Reported
from gateway_core.catalog import Surface
from gateway_core.dialects.usage import Used, count


class UsageReader(Protocol):
    """Reads along an answer's body."""

    def feed(self, chunk: bytes) -> bytes:
        """The next piece of the body: of a stream whole events, of any other answer of any length.

        Returns:
            What of it is for the caller.
        """

    def used(self) -> Used:
        """What has been reported until now."""

    @property
    def has_usage(self) -> bool:
        """Whether the answer has reported what it used, to its end."""

    def estimated(self, input_tokens: int) -> Used:
        """What is to be counted for an answer that broke off, or whose caller left, before it reported its usage."""


def reader_of(surface: Surface, *, is_stream: bool, is_stripping: bool = False) -> UsageReader:
    """The reader for an answer on this surface.

    Args:
        surface: whose dialect it speaks.
        is_stream: whether it comes in events.
        is_stripping: whether the stream was asked for its usage by the worker and not by its caller, who is not to see
            it.
    """
    return _StreamReader(surface, is_stripping=is_stripping) if is_stream else _WholeReader(surface)


# ── asking for the usage chunk ──

_FALSE: Final = msgspec.Raw(b"false")
_HAVING_THE_OPTION: Final = frozenset({Surface.CHAT_COMPLETIONS, Surface.COMPLETIONS})
_option: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def asking_for_usage(surface: Surface, members: Mapping[str, msgspec.Raw]) -> msgspec.Raw | None:
    """The `stream_options` to send instead of the caller's own.

    Args:
        surface: where the request goes.
        members: its body's members.

    Returns:
        None where nothing has to be changed: no stream, no such option on this surface, the caller asks by itself, or
        the options are not what they should be (the upstream says so better than we would).
    """
    if surface not in _HAVING_THE_OPTION or bytes(members.get("stream", _FALSE)).strip() != b"true":
        return None
    given = members.get("stream_options", msgspec.Raw(b"null"))
    try:
        options = {} if bytes(given).strip() == b"null" else _option.decode(given)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if bytes(options.get("include_usage", _FALSE)).strip() == b"true":
        return None
    return msgspec.Raw(msgspec.json.encode({**options, "include_usage": True}))


# ── reading ──

# A longer answer, or event, is not held.
_LONGEST_WHOLE: Final = 1024 * 1024
# Where something is reported in an answer, and in an event.
_OF_A_CHOICE: Final[Places] = {"finish_reason": True, "usage": True}
_PLACES: Final[Places] = {
    "usage": True,
    "service_tier": True,
    "stop_reason": True,
    "status": True,
    "incomplete_details": True,
    "type": True,
    "x_groq": {"usage": True},
    "choices": {"[]": _OF_A_CHOICE},
    "response": {"usage": True, "status": True, "incomplete_details": True, "service_tier": True},
    "message": {"usage": True},
    "delta": {"stop_reason": True},
}


class _Choice(msgspec.Struct):
    finish_reason: Any = None
    usage: Any = None


class _Essentials(msgspec.Struct):
    """What a whole answer is asked for. The rest is passed over: building it would take five times as long."""

    usage: Any = None
    stop_reason: Any = None
    status: Any = None
    incomplete_details: Any = None
    service_tier: Any = None
    x_groq: Any = None


class _EssentialsOfChoices(_Essentials):
    choices: list[_Choice] = []


_read_with_choices: Final = msgspec.json.Decoder(_EssentialsOfChoices).decode
_read_without: Final = msgspec.json.Decoder(_Essentials).decode


def _essentials(body: bytes) -> dict[str, Any]:
    """What a whole answer says, as `_PLACES` has it."""
    choices: list[dict[str, Any]] = []
    try:
        try:
            whole = _read_with_choices(body)
            answer: _Essentials = whole
            choices = [{"finish_reason": one.finish_reason, "usage": one.usage} for one in whole.choices[:1]]
        except msgspec.ValidationError:
            # Its choices are none.
            answer = _read_without(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return {
        "usage": answer.usage,
        "stop_reason": answer.stop_reason,
        "status": answer.status,
        "incomplete_details": answer.incomplete_details,
        "service_tier": answer.service_tier,
        "x_groq": answer.x_groq,
        "choices": choices,
    }


class _WholeReader:
    """An answer that is one JSON text."""

    __slots__ = ("_length", "_pieces", "_read", "_scan")

    def __init__(self, surface: Surface) -> None:
        self._read = READING_WHOLE[surface]
        self._pieces: list[bytes] = []
        self._length = 0
        self._scan: MemberScan | None = None

    def feed(self, chunk: bytes) -> bytes:
        if self._scan is not None:
            self._scan.feed(chunk)
            return chunk
        self._pieces.append(chunk)
        self._length += len(chunk)
        if self._length > _LONGEST_WHOLE:
            self._scan = MemberScan(_PLACES)
            for piece in self._pieces:
                self._scan.feed(piece)
            self._pieces = []
        return chunk

    def used(self) -> Used:
        return self._reported().used()

    @property
    def has_usage(self) -> bool:
        return self._reported().has_usage

    def _reported(self) -> Reported:
        reported = Reported()
        self._read(reported, self._scan.found if self._scan is not None else _essentials(b"".join(self._pieces)))
        return reported

    def estimated(self, input_tokens: int) -> Used:
        """A JSON text without its end gave the caller nothing that is worth a charge."""
        del input_tokens
        return self.used()


# What reports usage. In nearly every event of a stream it has no value, or is not there at all.
class _Sign(NamedTuple):
    """The members of an event that report usage."""

    # Without spaces, as most upstreams write.
    compact: bytes
    # Some of these stand in it where it is written with spaces.
    hints: tuple[bytes, ...]
    spaced: re.Pattern[bytes]


def _sign(name: bytes, begin: bytes) -> _Sign:
    return _Sign(
        compact=name + b":" + begin,
        hints=(name + b": ", name + b" "),
        spaced=re.compile(name + rb"\s*:\s*" + re.escape(begin)),
    )


_USAGE: Final = _sign(b'"usage"', b"{")
# Whoever strips has to see each that is left.
_ANY_USAGE: Final = _Sign(b'"usage"', (), re.compile(rb'"usage"'))
_FINISH: Final = _sign(b'"finish_reason"', b'"')
_STOP: Final = _sign(b'"stop_reason"', b'"')
_ENDS: Final = {Surface.RESPONSES: None, Surface.MESSAGES: _STOP}


class _StreamReader:
    """An answer in events. A chunk is searched a few times and nothing else is done with it, if it reports nothing."""

    __slots__ = ("_before", "_deltas", "_is_stripping", "_read", "_reported", "_scan", "_signs")

    def __init__(self, surface: Surface, *, is_stripping: bool) -> None:
        self._read = READING[surface]
        self._is_stripping = is_stripping
        # Why the model stopped, and the usage.
        end = _ENDS.get(surface, _FINISH)
        usage = _ANY_USAGE if is_stripping else _USAGE
        self._signs = (usage,) if end is None else (end, usage)
        self._reported = Reported()
        self._deltas = 0
        # Of an event that is too long to hold: what was found in it, and the last bytes of the piece before.
        self._scan: MemberScan | None = None
        self._before = b""

    def feed(self, chunk: bytes) -> bytes:
        """Whole events, a part of one that is too long to hold, or what a broken stream ended with."""
        if not chunk:
            return chunk
        if self._scan is not None:
            end = self._read_part(chunk)
            return chunk if end == len(chunk) else chunk[:end] + self.feed(chunk[end:])
        if len(chunk) > _LONGEST_WHOLE and not chunk.endswith(_USUAL_ENDS):
            begin = max((found.end() for found in _EVENT_END.finditer(chunk)), default=0)
            if begin == len(chunk):
                return self._read_events(chunk)
            passed = self.feed(chunk[:begin]) + chunk[begin:]
            self._deltas += 1
            self._scan = MemberScan(_PLACES)
            self._read_part(chunk[begin:])
            return passed
        return self._read_events(chunk)

    def _read_events(self, chunk: bytes) -> bytes:
        nulls = 0
        if self._is_stripping:
            # As nearly every upstream writes it. Unescaped quotes: never inside a JSON text. Python splits and joins in
            # half the time that it replaces in.
            parts = chunk.split(b',"usage":null}')
            if nulls := len(parts) - 1:
                chunk = b"}".join(parts)
        self._deltas += nulls or chunk.count(b"\ndata:") + chunk.startswith(b"data:")
        # From the end, because Python searches several times faster there.
        rfind = chunk.rfind
        has_tabs = rfind(b"\t") >= 0
        for sign in self._signs:
            is_spaced = has_tabs
            for hint in sign.hints:
                is_spaced = is_spaced or rfind(hint) >= 0
            if rfind(sign.compact) >= 0 or (is_spaced and sign.spaced.search(chunk)):
                chunk = self._take(chunk, sign.spaced if is_spaced else sign.compact)
        return chunk

    def _read_part(self, part: bytes) -> int:
        """Read a part of a long event. Returns where the event ends in it, or its length."""
        before = self._before
        found = _EVENT_END.search(before + part)
        end = len(part) if found is None else max(found.end() - len(before), 0)
        if self._scan is not None:
            self._scan.feed(part[:end])
        if found is None:
            self._before = (before + part)[-(_LONGEST_END - 1) :]
        else:
            self._end_long_event()
        return end

    def _end_long_event(self) -> None:
        if self._scan is not None:
            self._read(self._reported, self._scan.found)
        self._scan = None
        self._before = b""

    def _take(self, chunk: bytes, sign: bytes | re.Pattern[bytes]) -> bytes:
        """Read the events with a sign in them; returns the chunk without what its caller is not to see."""
        kept: list[bytes] = []
        last = 0
        for begin, end in _events_with(chunk, sign):
            event = chunk[begin:end]
            payload = _decoded(_data(event))
            kept.append(chunk[last:begin])
            last = end
            if not isinstance(payload, dict):
                kept.append(event)
                continue
            self._read(self._reported, payload)
            if payload.get("choices") != [] or not isinstance(payload.get("usage"), dict):
                kept.append(_NO_USAGE.sub(b"", event))
        if not self._is_stripping:
            return chunk
        kept.append(chunk[last:])
        return b"".join(kept)

    def used(self) -> Used:
        self._end_long_event()
        return self._reported.used()

    @property
    def has_usage(self) -> bool:
        self._end_long_event()
        return self._reported.has_usage

    def estimated(self, input_tokens: int) -> Used:
        """One token for each event that came: what the upstreams themselves do."""
        used = self.used()
        if not self._deltas or self._reported.has_usage:
            return used
        return used._replace(
            input_tokens=used.input_tokens or count(input_tokens),
            output_tokens=max(used.output_tokens, count(self._deltas)),
            usage_estimated=True,
        )


_USUAL_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
# An end may have begun in the piece before.
_LONGEST_END: Final = 4
_NO_USAGE: Final = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])')
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


def _events_with(chunk: bytes, sign: bytes | re.Pattern[bytes]) -> list[tuple[int, int]]:
    """Where the events of a chunk begin and end that have a sign in them, in order."""
    if isinstance(sign, bytes) and b"\r" not in chunk:
        return _plain_events_with(chunk, sign)
    pattern = re.compile(re.escape(sign)) if isinstance(sign, bytes) else sign
    ends = [found.end() for found in _EVENT_END.finditer(chunk)]
    bounds = zip([0, *ends], [*ends, len(chunk)], strict=True)
    return [(begin, end) for begin, end in bounds if pattern.search(chunk, begin, end)]


def _plain_events_with(chunk: bytes, sign: bytes) -> list[tuple[int, int]]:
    found = []
    begin = len(chunk)
    while (place := chunk.rfind(sign, 0, begin)) >= 0:
        after = chunk.find(b"\n\n", place, begin)
        end = begin if after < 0 else after + 2
        before = chunk.rfind(b"\n\n", 0, place)
        begin = 0 if before < 0 else before + 2
        found.append((begin, end))
    return found[::-1]


def _data(event: bytes) -> bytes:
    """The event's data: its `data` fields, joined by line ends."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:]
    lines = [
        line[6:] if line.startswith(b"data: ") else line[5:]
        for line in _LINE_END.split(event)
        if line.startswith(b"data:")
    ]
    return b"\n".join(lines)


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
