"""Whether encoded events are such as the control plane takes: one that is not would make their whole batch be refused.

The control plane compares each text with an expression, which takes nine tenths of the time of decoding. Here the
bytes of all events are searched at once for what no text may hold. IDs are not compared: they come from documents that
were verified, and from `event_id`.
"""

import re
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from gateway_core.usage_events import UsageEvent, within_bounds

# JSON writes the first control characters, and little else, with a backslash. The others are one byte, or two.
_ESCAPE: Final = b"\\"
_DELETE: Final = b"\x7f"
_LATER_CONTROLS: Final = re.compile(b"\xc2[\x80-\x9f]")
_BOUNDS: Final = ("ge", "gt", "le", "lt", "min_length", "max_length")


def valid_events(encoded: list[bytes]) -> list[bytes]:
    """The valid ones of some encoded events, and those that could be mended. An event that is dropped costs nothing."""
    if _are_valid(b"[%b]" % b",".join(encoded)):
        return encoded
    mended = (one if _is_decoded(_decode, one) else within_bounds(one) for one in encoded)
    return [one for one in mended if one is not None]


def _are_valid(events: bytes) -> bool:
    """Whether all events of a list are valid. False is not certain."""
    if events.rfind(_ESCAPE) >= 0 or events.rfind(_DELETE) >= 0 or _LATER_CONTROLS.search(events):
        return False
    return _is_decoded(_decode_forms, events)


def _is_decoded(decode: Any, encoded: bytes) -> bool:
    try:
        decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _form_of(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """A struct without the expressions that its texts have to match."""
    hints = get_type_hints(kind, include_extras=True)
    fields = [
        (one.name, _without_expressions(hints[one.name]), msgspec.field(default=one.default, name=one.encode_name))
        for one in msgspec.structs.fields(kind)
    ]
    checks = {name: one for name, one in vars(kind).items() if name == "__post_init__"}
    return msgspec.defstruct(kind.__name__, fields, namespace=checks, kw_only=True, frozen=True)


def _without_expressions(hint: Any) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [msgspec.Meta(**{bound: getattr(one, bound) for bound in _BOUNDS}) for one in hint.__metadata__]
        return Annotated[(_without_expressions(hint.__origin__), *bounds)]
    if origin in (Union, UnionType):
        return Union[tuple(map(_without_expressions, parts))]  # noqa: UP007 -- of parts that are not known here
    if origin is tuple:
        return tuple[tuple(one if one is Ellipsis else _without_expressions(one) for one in parts)]  # type: ignore[misc]
    if origin is not Literal and isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _form_of(hint)
    return hint


_decode: Final = msgspec.json.Decoder(UsageEvent).decode
_decode_forms: Final = msgspec.json.Decoder(list[_form_of(UsageEvent)]).decode  # type: ignore[misc]
