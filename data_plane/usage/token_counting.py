"""What an upstream's answer says of the tokens that it took, and why it stopped; read beside the answer, never from it.

Nothing here changes what a caller gets, but for one thing: an OpenAI stream tells its usage only when asked, in a last
chunk of its own. The worker asks always (`asking_for_usage`), and the reader takes the chunk out again for a caller who
did not.

An answer is somebody else's text: what is not as expected counts as zero.

Source: https://platform.openai.com/docs/api-reference, https://docs.anthropic.com/en/api/messages;
docs/decisions/0060-usage-events.md.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from gateway_core.catalog import Surface
from gateway_core.usage_events import MAX_COUNT, fit


class Used(NamedTuple):
    """Tokens as a usage event counts them: caches are part of the input, reasoning is part of the output."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    stop_reason: str = ""


class UsageReader(Protocol):
    """Reads along an answer's body."""

    def feed(self, chunk: bytes) -> bytes:
        """The next piece of the body: of a stream whole events, of any other answer of any length.

        Returns:
            What of it is for the caller.
        """

    def used(self) -> Used:
        """What has been told until now."""

    def estimated(self, input_tokens: int) -> Used:
        """What is to be counted for an answer that broke off, or whose caller left, before it told its usage."""


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

# Of a longer answer only the end is kept: usage stands there, in embeddings for one.
_LONGEST_WHOLE: Final = 1024 * 1024
_TAIL: Final = 64 * 1024
_USAGE_IN_TAIL: Final = re.compile(rb'(?<!\\)"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')


class _Choice(msgspec.Struct):
    finish_reason: Any = None


class _Essentials(msgspec.Struct):
    """What a whole answer is asked for. The rest is passed over: building it would take five times as long."""

    usage: Any = None
    stop_reason: Any = None
    status: Any = None
    incomplete_details: Any = None


class _EssentialsOfChoices(_Essentials):
    choices: list[_Choice] = []


_read_with_choices: Final = msgspec.json.Decoder(_EssentialsOfChoices).decode
_read_without: Final = msgspec.json.Decoder(_Essentials).decode


def _essentials(body: bytes) -> tuple[_Essentials, object]:
    """What an answer says, and why its first choice ended."""
    try:
        found = _read_with_choices(body)
    except msgspec.ValidationError:
        # Its choices are none.
        pass
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Essentials(), None
    else:
        return found, found.choices[0].finish_reason if found.choices else None
    try:
        return _read_without(body), None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Essentials(), None


class _WholeReader:
    """An answer that is one JSON text."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        self._pieces: list[bytes] = []
        self._length = 0
        self._is_cut = False

    def feed(self, chunk: bytes) -> bytes:
        self._pieces.append(chunk)
        self._length += len(chunk)
        if self._length > _LONGEST_WHOLE:
            self._is_cut = True
            tail = b"".join(self._pieces)[-_TAIL:]
            self._pieces, self._length = [tail], len(tail)
        return chunk

    def used(self) -> Used:
        body = b"".join(self._pieces)
        if self._is_cut:
            found = _USAGE_IN_TAIL.findall(body)
            return _counted(_decoded(found[-1])) if found else Used()
        answer, finish_reason = _essentials(body)
        if self._surface is Surface.MESSAGES:
            return _counted(answer.usage, _text(answer.stop_reason))
        if self._surface is Surface.RESPONSES:
            return _counted(answer.usage, _response_status(answer.status, answer.incomplete_details))
        return _counted(answer.usage, _text(finish_reason))

    def estimated(self, input_tokens: int) -> Used:
        """Without its end a JSON text told the caller nothing that is worth a charge."""
        del input_tokens
        return self.used()


# What tells something, by surface. In nearly every event it has no value.
_FINISH: Final = b'"finish_reason"'
_ENDS: Final = {Surface.RESPONSES: b'"usage"', Surface.MESSAGES: b'"stop_reason"'}
_USAGE: Final = b'"usage"'


class _StreamReader:
    """An answer in events. A chunk is searched a few times and nothing else is done with it, if it tells nothing."""

    __slots__ = ("_deltas", "_is_stripping", "_names", "_read", "_surface", "_told")

    def __init__(self, surface: Surface, *, is_stripping: bool) -> None:
        self._surface = surface
        self._read = _READING[surface]
        self._is_stripping = is_stripping
        # What an event that tells something has in it; empty before the first chunk.
        self._names: tuple[bytes, ...] = ()
        self._told = _Told()
        self._deltas = 0

    def feed(self, chunk: bytes) -> bytes:
        """Whole events (data_plane.forwarding.sse), or what a broken stream ended with."""
        if not chunk:
            return chunk
        self._deltas += chunk.count(b"\ndata:") + chunk.startswith(b"data:")
        if self._is_stripping:
            # As nearly every upstream writes it. Unescaped quotes: never inside a JSON text.
            chunk = chunk.replace(b',"usage":null}', b"}")
        if not self._names:
            self._names = self._names_as_in(chunk)
            if not self._names:
                return chunk
        usage, end = self._names
        # Searched from the end, where they stand if they are there.
        if end != usage and chunk.rfind(end) >= 0:
            self._take(chunk, end)
        return self._take(chunk, usage) if chunk.rfind(usage) >= 0 else chunk

    def _names_as_in(self, chunk: bytes) -> tuple[bytes, ...]:
        """A stream without a space behind its first names has none behind later ones: so an upstream's JSON is made.

        Any other has each of its events decoded that may tell something.
        """
        if b'":' not in chunk:
            return ()
        end = _ENDS.get(self._surface, _FINISH)
        if b'": ' in chunk:
            return _USAGE, end
        # Whoever strips has to see each that is left.
        return (_USAGE if self._is_stripping else _USAGE + b":{"), end if end == _USAGE else end + b':"'

    def _take(self, chunk: bytes, name: bytes) -> bytes:
        """Read the events with a name in them; returns the chunk without what its caller is not to see."""
        kept: list[bytes] = []
        last = 0
        for begin, end in _events_with(chunk, name):
            event = chunk[begin:end]
            payload = _decoded(_data(event))
            kept.append(chunk[last:begin])
            last = end
            if not isinstance(payload, dict):
                kept.append(event)
                continue
            self._read(self._told, payload)
            if payload.get("choices") != [] or not isinstance(payload.get("usage"), dict):
                kept.append(_NO_USAGE.sub(b"", event))
        if not self._is_stripping:
            return chunk
        kept.append(chunk[last:])
        return b"".join(kept)

    def used(self) -> Used:
        return self._told.used()

    def estimated(self, input_tokens: int) -> Used:
        """One token for each event that came: what the upstreams themselves do."""
        used = self.used()
        if not self._deltas or self._told.has_usage:
            return used
        return used._replace(
            input_tokens=used.input_tokens or _count(input_tokens),
            output_tokens=max(used.output_tokens, _count(self._deltas)),
        )


_NO_USAGE: Final = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])')
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


def _events_with(chunk: bytes, name: bytes) -> Iterator[tuple[int, int]]:
    """Where the events of a chunk begin and end that have a name in them, in order."""
    if b"\r" in chunk:
        ends = [found.end() for found in _EVENT_END.finditer(chunk)]
        bounds = zip([0, *ends], [*ends, len(chunk)], strict=True)
        yield from ((begin, end) for begin, end in bounds if name in chunk[begin:end])
        return
    end = 0
    while (place := chunk.find(name, end)) >= 0:
        before, after = chunk.rfind(b"\n\n", end, place), chunk.find(b"\n\n", place)
        begin = end if before < 0 else before + 2
        end = len(chunk) if after < 0 else after + 2
        yield begin, end


class _Told:
    """What a stream has told so far; later events say more than earlier ones."""

    __slots__ = ("has_usage", "stop_reason", "usage")

    def __init__(self) -> None:
        self.usage: dict[str, Any] = {}
        self.stop_reason = ""
        # Whether the usage is the final one.
        self.has_usage = False

    def used(self) -> Used:
        return _counted(self.usage, self.stop_reason)


def _read_chunk(told: _Told, chunk: dict[str, Any]) -> None:
    """Of chat completions and completions. One upstream tells its usage under a name of its own."""
    own = chunk.get("x_groq")
    for usage in (own.get("usage") if isinstance(own, dict) else None, chunk.get("usage")):
        if isinstance(usage, dict):
            told.usage = usage
            told.has_usage = True
    told.stop_reason = _finish_reason(chunk) or told.stop_reason


def _read_response_event(told: _Told, event: dict[str, Any]) -> None:
    response = event.get("response")
    if not isinstance(response, dict) or not isinstance(response.get("usage"), dict):
        return
    told.usage = response["usage"]
    told.stop_reason = _response_status(response.get("status"), response.get("incomplete_details"))
    told.has_usage = True


def _read_message_event(told: _Told, event: dict[str, Any]) -> None:
    """The start tells the input, the delta at the end the output so far; what it repeats is the newer truth."""
    message = event.get("message")
    usage = message.get("usage") if isinstance(message, dict) else event.get("usage")
    if isinstance(usage, dict):
        told.usage = told.usage | {name: value for name, value in usage.items() if value is not None}
        told.has_usage = told.has_usage or event.get("type") == "message_delta"
    delta = event.get("delta")
    if isinstance(delta, dict):
        told.stop_reason = _text(delta.get("stop_reason")) or told.stop_reason


_READING: Final = {
    Surface.CHAT_COMPLETIONS: _read_chunk,
    Surface.COMPLETIONS: _read_chunk,
    Surface.EMBEDDINGS: _read_chunk,
    Surface.RESPONSES: _read_response_event,
    Surface.MESSAGES: _read_message_event,
}


def _counted(usage: object, stop_reason: str = "") -> Used:
    """From any of the dialects: each names what it has, and none uses a name in another's sense.

    Anthropic tells its caches beside the input, OpenAI as details of it.
    """
    if not isinstance(usage, dict):
        return Used(stop_reason=stop_reason)
    get = usage.get
    read, written = _count(get("cache_read_input_tokens")), _count(get("cache_creation_input_tokens"))
    into = _details(usage, "prompt_tokens_details", "input_tokens_details")
    out_of = _details(usage, "completion_tokens_details", "output_tokens_details")
    return Used(
        min(_count(get("prompt_tokens", get("input_tokens"))) + read + written, MAX_COUNT),
        _count(get("completion_tokens", get("output_tokens"))),
        read or _count(into.get("cached_tokens", get("prompt_cache_hit_tokens"))),
        written,
        _count(out_of.get("reasoning_tokens")),
        stop_reason,
    )


def _details(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        found = usage.get(name)
        if isinstance(found, dict):
            return found
    return {}


def _finish_reason(answer: dict[str, Any]) -> str:
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return _text(first.get("finish_reason")) if isinstance(first, dict) else ""


def _response_status(status: object, incomplete: object) -> str:
    """Why an incomplete one is so; else its status (`completed`, `failed`)."""
    reason = _text(incomplete.get("reason")) if isinstance(incomplete, dict) else ""
    return reason or _text(status)


def _count(value: object) -> int:
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 -- not a number
        return 0
    return int(max(0, min(value, MAX_COUNT)))


def _text(value: object) -> str:
    return fit(value) if isinstance(value, str) else ""


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
