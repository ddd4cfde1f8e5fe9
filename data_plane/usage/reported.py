"""What an answer has reported of its usage, from the members that name it: whole or as events, by surface."""

from collections.abc import Mapping
from typing import Any, Final

from gateway_core.catalog import Surface
from gateway_core.dialects.usage import Used, merged, tier_of, used_of
from gateway_core.usage_events import fit


class Reported:
    """What an answer has reported so far; later events say more than earlier ones, and no number falls."""

    __slots__ = ("has_usage", "stop_reason", "tier", "usage")

    def __init__(self) -> None:
        self.usage: dict[str, Any] = {}
        self.stop_reason = ""
        self.tier: object = None
        # Whether the usage is the final one.
        self.has_usage = False

    def take(self, usage: object, *, is_final: bool = True) -> None:
        if isinstance(usage, dict):
            self.usage = merged(self.usage, usage)
            self.has_usage = self.has_usage or is_final

    def take_tier(self, tier: object) -> None:
        self.tier = tier_of(tier, self.tier)

    def used(self) -> Used:
        return used_of(self.usage, stop_reason=self.stop_reason, tier=self.tier)


def _read_chunk(reported: Reported, chunk: Mapping[str, Any]) -> None:
    """Of chat completions, completions and embeddings, whole or an event. Some have a place of their own."""
    own = chunk.get("x_groq")
    choices = chunk.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    reported.take(own.get("usage") if isinstance(own, dict) else None)
    reported.take(first.get("usage") if isinstance(first, dict) else None)
    reported.take(chunk.get("usage"))
    reported.take_tier(chunk.get("service_tier"))
    reported.stop_reason = (
        _text(first.get("finish_reason")) if isinstance(first, dict) else ""
    ) or reported.stop_reason


def _read_response(reported: Reported, response: Mapping[str, Any]) -> None:
    reported.take(response.get("usage"))
    reported.take_tier(response.get("service_tier"))
    reported.stop_reason = _response_status(response.get("status"), response.get("incomplete_details"))


def _read_response_event(reported: Reported, event: Mapping[str, Any]) -> None:
    response = event.get("response")
    if isinstance(response, dict) and isinstance(response.get("usage"), dict):
        _read_response(reported, response)


def _read_message(reported: Reported, message: Mapping[str, Any]) -> None:
    reported.take(message.get("usage"))
    reported.stop_reason = _text(message.get("stop_reason"))


def _read_message_event(reported: Reported, event: Mapping[str, Any]) -> None:
    """The start reports the input, the delta at the end the output so far."""
    message = event.get("message")
    usage = message.get("usage") if isinstance(message, dict) else event.get("usage")
    reported.take(usage, is_final=event.get("type") == "message_delta")
    delta = event.get("delta")
    if isinstance(delta, dict):
        reported.stop_reason = _text(delta.get("stop_reason")) or reported.stop_reason


READING: Final = {
    Surface.CHAT_COMPLETIONS: _read_chunk,
    Surface.COMPLETIONS: _read_chunk,
    Surface.EMBEDDINGS: _read_chunk,
    Surface.RESPONSES: _read_response_event,
    Surface.MESSAGES: _read_message_event,
}
READING_WHOLE: Final = READING | {Surface.RESPONSES: _read_response, Surface.MESSAGES: _read_message}


def _response_status(status: object, incomplete: object) -> str:
    """Why an incomplete one is so; else its status (`completed`, `failed`)."""
    reason = _text(incomplete.get("reason")) if isinstance(incomplete, dict) else ""
    return reason or _text(status)


def _text(value: object) -> str:
    return fit(value) if isinstance(value, str) else ""
