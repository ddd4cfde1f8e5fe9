"""Server-sent events on their way through: as they come, but whole.

An event is forwarded once its blank line has come, so that an error event can follow at any time and is read as such.
One that grows too large to hold passes in parts; what follows a part needs a blank line of its own (`apart_from`).
Nearly every chunk of a real upstream ends with an event, and passes without being copied.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream.
"""

import re
from typing import Final

from gateway_core.catalog import Surface

# Beyond this an event is no longer waited for.
_LONGEST_HELD: Final = 1024 * 1024
# As many bytes as the longest end of an event has.
TAIL: Final = 4
EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_USUAL_ENDS: Final = (b"\n\n", b"\r\n\r\n")
# What the last event of a whole answer begins with, in each of the formats. Anchored where a line begins: a model may
# write the same words, but a JSON text has no line ends in it.
_TERMINAL: Final = re.compile(
    rb"(?:\A|[\r\n])(?:data: ?\[DONE\]|event: ?message_stop|data: ?\{\"type\": ?\"message_stop\""
    rb"|(?:event: ?|data: ?\{\"type\": ?\")response\.(?:completed|incomplete|failed))"
)
# An answer is complete too, though its last event is missing, once it says why the model stopped.
STOPPED: Final = re.compile(rb'"(?:finish_reason|stop_reason)" ?: ?"')
_TERMINAL_WORDS: Final = {
    Surface.MESSAGES: (b"message_stop",),
    Surface.RESPONSES: (b"response.", b"[DONE]"),
}
_USUAL_WORDS: Final = (b"[DONE]",)
# What may stand between the beginning of a match and its word.
_LONGEST_LEAD: Final = 24


class EventStream:
    """One stream: what may be passed on, what is held back, and whether its last event was seen."""

    __slots__ = ("_held", "_words", "has_ended")

    def __init__(self, surface: Surface) -> None:
        self._held = bytearray()
        self._words = _TERMINAL_WORDS.get(surface, _USUAL_WORDS)
        # Whether an event has passed that ends an answer.
        self.has_ended = False

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to pass on now: up to the end of the last whole event, or all if too much would be held."""
        if not self._held and chunk.endswith(_USUAL_ENDS):
            self._look_for_end(chunk)
            return chunk
        # A long event comes in many pieces. Only the new piece is searched, and the few bytes before it in which an end
        # may have begun.
        before = bytes(self._held[-(TAIL - 1) :])
        data = before + chunk if before else chunk
        is_whole = data.endswith(_USUAL_ENDS)
        end = len(chunk) if is_whole else _last_end(data) - len(before)
        if end <= 0 and len(self._held) + len(chunk) <= _LONGEST_HELD:
            self._held += chunk
            return b""
        if len(chunk) - end > _LONGEST_HELD or end <= 0:
            end = len(chunk)
        whole = b"".join((self._held, chunk[:end])) if before else chunk[:end]
        self._held = bytearray(chunk[end:])
        self._look_for_end(whole)
        return whole

    def rest(self) -> bytes:
        """What was held back, for a stream that its upstream ended in good order."""
        held, self._held = bytes(self._held), bytearray()
        self._look_for_end(held)
        return held

    def _look_for_end(self, whole: bytes) -> None:
        # The expression reads every line. A search for its words, from the end, takes a fraction of that.
        for word in self._words:
            if (place := whole.rfind(word)) >= 0 and _has_end(whole, word, place):
                self.has_ended = True


def _has_end(whole: bytes, word: bytes, last: int) -> bool:
    """Whether a word ends an event at its last place or at its first one, and is not only part of a text.

    Nearly always the last place is the one.
    """
    return _ends_at(whole, last) or _ends_at(whole, whole.find(word))


def _ends_at(whole: bytes, place: int) -> bool:
    return _TERMINAL.search(whole, max(0, place - _LONGEST_LEAD)) is not None


def apart_from(tail: bytes) -> bytes:
    """What to send before an event of our own.

    Args:
        tail: the last `TAIL` bytes that were passed on, or as many as there were.

    Returns:
        A blank line if they are of an event that has not ended, else nothing.
    """
    return b"" if not tail or _last_end(tail) == len(tail) else b"\n\n"


def _last_end(data: bytes) -> int:
    end = 0
    for found in EVENT_END.finditer(data):
        end = found.end()
    return end
