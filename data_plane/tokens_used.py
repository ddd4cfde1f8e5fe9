"""What an upstream's answer says of the tokens that it took, and why it stopped; read beside the answer, never from it.

Nothing here changes what a caller gets, but for one thing: an OpenAI stream tells its usage only when asked, in a last
chunk of its own. The worker asks always (`asking_for_usage`) and takes the chunk out again for a caller who did not
(`UsageChunkFilter`).

An answer is somebody else's text: what is not as expected counts as zero.

Source: https://platform.openai.com/docs/api-reference, https://docs.anthropic.com/en/api/messages;
docs/decisions/0060-usage-events.md.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from data_plane.sse import EventStream
from gateway_core.catalog import Surface
from gateway_core.usage import MAX_COUNT, fit


class Used(NamedTuple):
    """Tokens as a usage event counts them: caches are part of the input, reasoning is part of the output."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    stop_reason: str = ""


class Reader(Protocol):
    """Reads along an answer's body."""

    def feed(self, chunk: bytes) -> None:
        """The next piece of the body, of any length."""

    def used(self) -> Used:
        """What has been told until now."""

    def estimated(self, input_tokens: int) -> Used:
        """What is to be counted for an answer that broke off, or whose caller left, before it told its usage."""


def reader_of(surface: Surface, *, is_stream: bool) -> Reader:
    """The reader for an answer on this surface."""
    return _StreamReader(surface) if is_stream else _WholeReader(surface)


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


class UsageChunkFilter:
    """Takes out of an OpenAI stream what only the worker asked for."""

    __slots__ = ()

    def feed(self, events: bytes) -> bytes:
        """Whole events (data_plane.sse.EventStream) without the usage chunk, and without `"usage":null` in others."""
        if b'"usage"' not in events:
            return events
        kept = []
        start = 0
        for end in [*(found.end() for found in _EVENT_END.finditer(events)), len(events)]:
            event = events[start:end]
            start = end
            if b'"usage"' not in event:
                kept.append(event)
            elif not _is_usage_chunk(event):
                kept.append(_NO_USAGE.sub(b"", event))
        return b"".join(kept)


def _is_usage_chunk(event: bytes) -> bool:
    chunk = _decoded(_data(event))
    return isinstance(chunk, dict) and chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)


# Unescaped quotes: never inside a JSON text.
_NO_USAGE: Final = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])')
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


# ── reading ──

# Of a longer answer only the end is kept: usage stands there, in embeddings for one.
_LONGEST_WHOLE: Final = 1024 * 1024
_TAIL: Final = 64 * 1024
_USAGE_IN_TAIL: Final = re.compile(rb'(?<!\\)"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
# Events that tell something; no other is decoded.
_TELLING: Final = re.compile(
    rb'"(?:usage|x_groq)"\s*:\s*\{|"(?:finish_reason|stop_reason)"\s*:\s*"'
    rb'|"type"\s*:\s*"response\.(?:completed|incomplete|failed)"'
)


_NOTHING: Final = msgspec.Raw(b"null")


class _Essentials(msgspec.Struct):
    """What a whole answer is asked for. The rest is passed over: building it would take five times as long."""

    usage: Any = None
    stop_reason: Any = None
    status: Any = None
    incomplete_details: Any = None
    choices: msgspec.Raw = _NOTHING


class _Choice(msgspec.Struct):
    finish_reason: Any = None


_read_essentials: Final = msgspec.json.Decoder(_Essentials).decode
_read_choices: Final = msgspec.json.Decoder(list[_Choice]).decode


def _essentials(body: bytes) -> dict[str, Any] | None:
    try:
        found = _read_essentials(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    try:
        choices = [{"finish_reason": choice.finish_reason} for choice in _read_choices(found.choices)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        choices = []
    return {
        "usage": found.usage,
        "stop_reason": found.stop_reason,
        "status": found.status,
        "incomplete_details": found.incomplete_details,
        "choices": choices,
    }


class _WholeReader:
    """An answer that is one JSON text."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        self._pieces: list[bytes] = []
        self._length = 0
        self._is_cut = False

    def feed(self, chunk: bytes) -> None:
        self._pieces.append(chunk)
        self._length += len(chunk)
        if self._length > _LONGEST_WHOLE:
            self._is_cut = True
            tail = b"".join(self._pieces)[-_TAIL:]
            self._pieces, self._length = [tail], len(tail)

    def used(self) -> Used:
        body = b"".join(self._pieces)
        if self._is_cut:
            found = _USAGE_IN_TAIL.findall(body)
            return _from_answer(self._surface, {"usage": _decoded(found[-1])}) if found else Used()
        answer = _essentials(body)
        return Used() if answer is None else _from_answer(self._surface, answer)

    def estimated(self, input_tokens: int) -> Used:
        """Without its end a JSON text told the caller nothing that is worth a charge."""
        del input_tokens
        return self.used()


class _StreamReader:
    """An answer in events."""

    def __init__(self, surface: Surface) -> None:
        self._read = _READING[surface]
        self._events = EventStream()
        self._told = _Told()
        self._deltas = 0

    def feed(self, chunk: bytes) -> None:
        whole = self._events.feed(chunk)
        if not whole:
            return
        self._deltas += whole.count(b"\ndata:") + whole.startswith(b"data:")
        if _TELLING.search(whole):
            self._take(whole)

    def _take(self, whole: bytes) -> None:
        for event in _EVENT_END.split(whole):
            if _TELLING.search(event):
                payload = _decoded(_data(event))
                if isinstance(payload, dict):
                    self._read(self._told, payload)

    def used(self) -> Used:
        self._take(self._events.rest())
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


class _Told:
    """What a stream has told so far; later events say more than earlier ones."""

    __slots__ = ("has_usage", "stop_reason", "usage")

    def __init__(self) -> None:
        self.usage: dict[str, Any] = {}
        self.stop_reason = ""
        # Whether the usage is the final one.
        self.has_usage = False

    def used(self) -> Used:
        return _counted(self.usage)._replace(stop_reason=self.stop_reason)


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
    told.stop_reason = _response_status(response)
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


def _from_answer(surface: Surface, answer: dict[str, Any]) -> Used:
    usage = answer.get("usage")
    used = _counted(usage if isinstance(usage, dict) else {})
    if surface is Surface.MESSAGES:
        return used._replace(stop_reason=_text(answer.get("stop_reason")))
    if surface is Surface.RESPONSES:
        return used._replace(stop_reason=_response_status(answer))
    return used._replace(stop_reason=_finish_reason(answer))


def _counted(usage: dict[str, Any]) -> Used:
    """From any of the dialects: each names what it has, and none uses a name in another's sense.

    Anthropic tells its caches beside the input, OpenAI as details of it.
    """
    beside = _count(usage.get("cache_read_input_tokens")), _count(usage.get("cache_creation_input_tokens"))
    into = _details(usage, "prompt_tokens_details", "input_tokens_details")
    out_of = _details(usage, "completion_tokens_details", "output_tokens_details")
    return Used(
        input_tokens=min(
            _count(usage.get("prompt_tokens", usage.get("input_tokens"))) + sum(beside),
            MAX_COUNT,
        ),
        output_tokens=_count(usage.get("completion_tokens", usage.get("output_tokens"))),
        cache_read_tokens=beside[0] or _count(into.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))),
        cache_write_tokens=beside[1],
        reasoning_tokens=_count(out_of.get("reasoning_tokens")),
    )


def _details(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    return next((usage[name] for name in names if isinstance(usage.get(name), dict)), {})


def _finish_reason(answer: dict[str, Any]) -> str:
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return _text(first.get("finish_reason")) if isinstance(first, dict) else ""


def _response_status(response: dict[str, Any]) -> str:
    """Why an incomplete one is so; else its status (`completed`, `failed`)."""
    incomplete = response.get("incomplete_details")
    reason = _text(incomplete.get("reason")) if isinstance(incomplete, dict) else ""
    return reason or _text(response.get("status"))


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 -- not a number
        return 0
    return int(max(0, min(value, MAX_COUNT)))


def _text(value: object) -> str:
    return fit(value) if isinstance(value, str) else ""


def _data(event: bytes) -> bytes:
    """The event's data: its `data` fields, joined by line ends."""
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
