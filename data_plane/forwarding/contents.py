"""Whether an answer with the status 200 says something, or is a failure that only looks like an answer.

The bytes are searched for a few words first. They are decoded only where one of the words is found. Of a stream nothing
is decoded after its first content.

Source: docs/decisions/0085-failures-in-disguise.md.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec

from data_plane.forwarding.sse import EVENT_END
from gateway_core.catalog import Surface
from gateway_core.dialects.error_texts import ErrorText, error_text, is_error


class Sight(Enum):
    """What an event of a stream means for its caller."""

    # Comments, empty lines, and events that say only that there will be an answer.
    LIFE = "life"
    CONTENT = "content"
    # The stream's end. Without content before it that is no answer.
    END = "end"
    FAILURE = "failure"


class Seen(NamedTuple):
    """What several events mean, and the text of an error among them."""

    sight: Sight
    error: ErrorText = ErrorText()


_CONTENT: Final = Seen(Sight.CONTENT)
# An event without any of these words is content. An event with one of them is decoded. They are texts, because one
# expression for all of them takes many times as long as a search for each.
_ERROR_WORDS: Final = (b'"error"', b"event: error", b"event:error")
_LOOKED_AT: Final = {
    Surface.MESSAGES: (b'"message_start"', b'"ping"', b'"message_stop"', *_ERROR_WORDS),
    Surface.RESPONSES: (
        *(b'"response.created"', b'"response.in_progress"', b'"response.queued"', b'"response.failed"', b"[DONE]"),
        *_ERROR_WORDS,
    ),
}
_USUALLY_LOOKED_AT: Final = (
    *(b'"role"', b'"choices":[]', b'"choices": []', b'"text":""', b'"text": ""', b"[DONE]"),
    *_ERROR_WORDS,
)
_LIFE_TYPES: Final = frozenset({"message_start", "ping", "response.created", "response.in_progress", "response.queued"})
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BLANK: Final = b" \t\r\n\xef\xbb\xbf"
_END_MARK: Final = b"[DONE]"
_NAMED_ERROR: Final = b"error"
# How the answers of each surface are recognised.
_ANSWERS: Final = {
    Surface.CHAT_COMPLETIONS: "choices",
    Surface.COMPLETIONS: "choices",
    Surface.RESPONSES: "output",
    Surface.EMBEDDINGS: "data",
    Surface.MESSAGES: "content",
}
_ERROR_MEMBER: Final = re.compile(rb'"error"\s*:\s*(?!null)|"base_resp"')
# An answer that has none of these besides what is missing may be of a kind that is not known here.
_COMPLAINTS: Final = frozenset({"error", "detail", "message", "msg", "errors", "error_msg", "base_resp"})


def see(events: bytes, surface: Surface) -> Seen:
    """What these whole events mean: the first that is more than a sign of life decides."""
    for event in _split(events):
        found = _see_one(event, surface)
        if found.sight is not Sight.LIFE:
            return found
    return Seen(Sight.LIFE)


def fails_within(events: bytes) -> bool:
    """Whether one of these whole events is an error. The caller has found the word somewhere in them."""
    return any(
        _has_any(event, _ERROR_WORDS) and _see_one(event, Surface.RESPONSES).sight is Sight.FAILURE
        for event in _split(events)
    )


def failure_in(body: bytes, surface: Surface) -> ErrorText | None:
    """Why a whole answer is none; None if it is one."""
    text = body.lstrip(_BLANK)
    if not text.startswith(b"{"):
        return ErrorText(message="The answer is empty." if not text else "The answer is not JSON.")
    wanted = _ANSWERS[surface]
    if text.rfind(b'"%b"' % wanted.encode()) >= 0:
        is_suspect = text.rfind(b'"error"') >= 0 or text.rfind(b'"base_resp"') >= 0
        if not is_suspect or not _ERROR_MEMBER.search(text):
            return None
    payload = _decoded(text)
    if not isinstance(payload, dict):
        return ErrorText(message="The answer is not JSON.")
    if is_error(payload) or (payload.get(wanted) is None and payload.keys() & _COMPLAINTS):
        return error_text(payload)
    return None


def is_stream_of_events(beginning: bytes) -> bool:
    """Whether a body that begins so is one of server-sent events, whatever its content type says."""
    return beginning.lstrip(_BLANK).startswith((b"data:", b"event:", b": ", b"id:", b"retry:", b":\n"))


def _see_one(event: bytes, surface: Surface) -> Seen:
    name, data = _fields(event)
    if not data:
        return Seen(Sight.LIFE)
    if not _has_any(event, _LOOKED_AT.get(surface, _USUALLY_LOOKED_AT)):
        return _CONTENT
    if data.strip() == _END_MARK:
        return Seen(Sight.END)
    payload = _decoded(data)
    if name == _NAMED_ERROR or is_error(payload):
        error = error_text(payload)
        return Seen(
            Sight.FAILURE, error if error.message or payload is not None else error._replace(message=_text(data))
        )
    if not isinstance(payload, dict):
        return Seen(Sight.CONTENT)
    kind = payload.get("type")
    if kind == "message_stop":
        return Seen(Sight.END)
    if isinstance(kind, str) and kind in _LIFE_TYPES:
        return Seen(Sight.LIFE)
    if isinstance(choices := payload.get("choices"), list):
        return _see_choices(choices)
    return Seen(Sight.CONTENT)


def _has_any(event: bytes, words: tuple[bytes, ...]) -> bool:
    # From the end, because Python searches several times faster there.
    rfind = event.rfind
    for word in words:  # noqa: SIM110 -- a generator would cost more than the searches
        if rfind(word) >= 0:
            return True
    return False


def _see_choices(choices: list[Any]) -> Seen:
    for choice in choices:
        if not isinstance(choice, dict):
            return Seen(Sight.CONTENT)
        reason = choice.get("finish_reason")
        if reason == "error":
            return Seen(Sight.FAILURE, error_text(choice))
        delta = choice.get("delta")
        said = any(value for name, value in delta.items() if name != "role") if isinstance(delta, dict) else False
        if reason or said or choice.get("text") or choice.get("message"):
            return Seen(Sight.CONTENT)
    return Seen(Sight.LIFE)


def _split(events: bytes) -> Iterator[bytes]:
    begin = 0
    if events.rfind(b"\r") < 0:
        while (end := events.find(b"\n\n", begin) + 2) > 1:
            yield events[begin:end]
            begin = end
    for found in EVENT_END.finditer(events, begin):
        yield events[begin : found.end()]
        begin = found.end()
    if begin < len(events):
        yield events[begin:]


def _fields(event: bytes) -> tuple[bytes, bytes]:
    """An event's name and its data."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and event.rfind(b"\r") < 0:
        return b"", event[6:-2]
    name, data = b"", []
    for line in _LINE_END.split(event.lstrip(b"\xef\xbb\xbf")):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"event:"):
            name = line[6:].strip()
    return name, b"\n".join(data)


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _text(data: bytes) -> str:
    return data[:1000].decode("utf-8", "replace")
