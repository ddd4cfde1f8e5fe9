"""Request bodies: reads them within a limit, parses what routing needs, and writes them again otherwise unchanged.

Only the top level of the JSON object is taken apart; every value but the model's goes on as the very bytes that came.
Of a member that is given twice the last one counts, here and upstream, since only one is forwarded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from data_plane.errors import BodyInvalid, BodyTooDeep, BodyTooLarge, BodyTooSlow, ModelInvalid
from data_plane.forwarding import governed
from data_plane.forwarding.time_limit import TimeLimit

BODY_LIMIT: Final = 32 * 1024 * 1024
# A body over the limit is still read up to here and thrown away, so that its sender can read the answer.
_DISCARDED: Final = 4 * BODY_LIMIT
_LONGEST_MODEL: Final = 512
_MOST_MODELS: Final = 100
_FIRST_PRINTABLE: Final = " "
_DELETE: Final = "\x7f"

_ABSENT: Final = msgspec.Raw(b"")
_NO_CHANGES: Final[Mapping[str, msgspec.Raw]] = {}

Receive = Callable[[], Awaitable[Any]]


class ClientLeft(Exception):
    """The caller hung up."""


class Body(NamedTuple):
    """A request's body: its top-level members as bytes, and the models that it asks for."""

    members: dict[str, msgspec.Raw]
    # The model names in order, at least one.
    requested: tuple[str, ...]

    @property
    def is_streaming(self) -> bool:
        """Whether the caller asks for a stream."""
        return bytes(self.members.get("stream", _ABSENT)).strip() == b"true"

    def forwarded(
        self, model: str, parameters: Collection[str] | None, changes: Mapping[str, msgspec.Raw] = _NO_CHANGES
    ) -> bytes:
        """The body for an upstream.

        Args:
            model: the provider's spelling.
            parameters: the members that the provider takes, or None for all.
            changes: members that the gateway itself sets. The provider takes each of them.
        """
        members: dict[str, object] = {
            name: value
            for name, value in self.members.items()
            if name != "models" and (parameters is None or name in parameters)
        }
        members.update(changes)
        members["model"] = model
        return _encode(members)


_encode: Final = msgspec.json.Encoder().encode
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_model: Final = msgspec.json.Decoder(str)
_models: Final = msgspec.json.Decoder(list[str])


async def read(receive: Receive, limit: TimeLimit, *, within: float) -> bytes:
    """The whole body.

    Args:
        receive: the receive channel of ASGI.
        limit: the time limit of the reading task.
        within: seconds that the whole body may take.

    Raises:
        BodyTooLarge, BodyTooSlow, ClientLeft: as they say.
    """
    try:
        with limit.until(asyncio.get_running_loop().time() + within):
            message = await receive()
            if message["type"] == "http.request" and not message["more_body"] and len(message["body"]) <= BODY_LIMIT:
                whole: bytes = message["body"]
                return whole
            return await _read_pieces(receive, message)
    except TimeoutError:
        raise BodyTooSlow from None


async def _read_pieces(receive: Receive, message: Any) -> bytes:
    pieces: list[bytes] = []
    length = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece = message["body"]
        length += len(piece)
        if length <= BODY_LIMIT:
            pieces.append(piece)
        elif length > _DISCARDED:
            raise BodyTooLarge
        else:
            pieces.clear()
        if not message["more_body"]:
            break
        message = await receive()
    if length > BODY_LIMIT:
        raise BodyTooLarge
    return b"".join(pieces)


def parse(raw: bytes) -> Body:
    """What a body asks for.

    Raises:
        BodyInvalid, BodyTooDeep, ModelInvalid: it is not a JSON object in UTF-8, or names no model.
        MemberAmbiguous, MemberInvalid: as `governed.check`.
    """
    try:
        if not raw.isascii():
            raw.decode("utf-8")
        members = _members.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BodyInvalid from None
    except RecursionError:
        raise BodyTooDeep from None
    governed.check(members)
    return Body(members, _requested(members))


def _requested(members: dict[str, msgspec.Raw]) -> tuple[str, ...]:
    names: list[str] = []
    param = "model"
    try:
        if (model := members.get("model")) is not None:
            names.append(_model.decode(model))
        param = "models"
        if (models := members.get("models")) is not None:
            names.extend(_models.decode(models))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelInvalid(param=param) from None
    if not names or len(names) > _MOST_MODELS or not all(map(_is_name, names)):
        raise ModelInvalid(param="model" if "models" not in members else "models")
    return tuple(dict.fromkeys(names))


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_MODEL and min(name) >= _FIRST_PRINTABLE and _DELETE not in name
