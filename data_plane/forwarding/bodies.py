"""Request bodies: reads them within a limit, parses what routing needs, and writes them again otherwise unchanged.

Only the top level of the JSON object is taken apart; every value but the model's goes on as the very bytes that came.
Of a member that is given twice the last one counts, here and upstream, since only one is forwarded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from data_plane.errors import (
    BodyInvalid,
    BodyTooDeep,
    BodyTooLarge,
    BodyTooSlow,
    MembersTooLong,
    ModelInvalid,
    TooManyMembers,
    TooManyModels,
)
from data_plane.forwarding import governed
from data_plane.forwarding.budget import Share
from data_plane.forwarding.time_limit import TimeLimit
from data_plane.settings import RequestLimits

BODY_LIMIT: Final = 32 * 1024 * 1024
# A body over the limit is still read up to here and thrown away, so that its sender can read the answer.
_DISCARDED: Final = 4 * BODY_LIMIT
_LONGEST_MODEL: Final = 512
# As JSON: twelve bytes a character, and some blanks.
_LONGEST_MODEL_WRITTEN: Final = 16 * _LONGEST_MODEL
# A shorter body is taken apart in one pass, whatever it has in it.
_SHORT: Final = 64 * 1024
# Of a longer body, how long all members may be together that are none of `_KNOWN`. Each is a Python object.
_UNKNOWN_BYTES: Final = 1024 * 1024
_FIRST_PRINTABLE: Final = " "
# Some editors and PowerShell write it before JSON.
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_DELETE: Final = "\x7f"

_DEFAULT_LIMITS: Final = RequestLimits()
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
    # Bytes of it as it came.
    length: int = 0

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


# Members that may be long: what the gateway knows, and under what names else some upstreams take texts and pictures.
_KNOWN: Final = (
    *(*governed.GOVERNED, *governed.HARMLESS, "documents", "texts", "image", "images", "audio", "video", "mask"),
    *("query", "queries", "passages", "instances", "inputs", "contents", "files"),
)
_FIELDS: Final = [(name, msgspec.Raw, msgspec.field(default=_ABSENT)) for name in dict.fromkeys(_KNOWN)]
_only_known: Final = msgspec.json.Decoder(msgspec.defstruct("OnlyKnown", _FIELDS, forbid_unknown_fields=True))
_known: Final = msgspec.json.Decoder(msgspec.defstruct("Known", _FIELDS))


async def read(receive: Receive, limit: TimeLimit, share: Share, *, within: float) -> bytes:
    """The whole body.

    Args:
        receive: the receive channel of ASGI.
        limit: the time limit of the reading task.
        share: holds the bytes that were read.
        within: seconds that the whole body may take.

    Raises:
        BodyTooLarge, BodyTooSlow, ClientLeft: as they say.
        BodiesInFlight, WorkerFull: as `Share.hold`.
    """
    try:
        with limit.until(asyncio.get_running_loop().time() + within):
            message = await receive()
            if message["type"] == "http.request" and not message["more_body"] and len(message["body"]) <= BODY_LIMIT:
                whole: bytes = message["body"]
                share.hold(len(whole))
                return whole
            return await _read_pieces(receive, share, message)
    except TimeoutError:
        raise BodyTooSlow from None


async def _read_pieces(receive: Receive, share: Share, message: Any) -> bytes:
    pieces: list[bytes] = []
    length = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece = message["body"]
        length += len(piece)
        if length <= BODY_LIMIT:
            share.hold(len(piece))
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


def parse(raw: bytes, limits: RequestLimits = _DEFAULT_LIMITS) -> Body:
    """What a body asks for.

    Raises:
        BodyInvalid, BodyTooDeep, ModelInvalid: it is not a JSON object in UTF-8, or names no model.
        TooManyMembers, MembersTooLong, TooManyModels: it is over a bound.
        MemberAmbiguous, MemberInvalid: as `governed.check`.
    """
    raw = raw.removeprefix(_BYTE_ORDER_MARK)
    try:
        if not raw.isascii():
            raw.decode("utf-8")
        members = _members.decode(raw) if len(raw) <= _SHORT else _members_of_long(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BodyInvalid from None
    except RecursionError:
        raise BodyTooDeep from None
    if len(members) > limits.members:
        raise TooManyMembers(f"The body has more than {limits.members} members.")
    governed.check(members)
    return Body(members, _requested(members, limits.models), len(raw))


def _members_of_long(raw: bytes) -> dict[str, msgspec.Raw]:
    """The members of a body that may have a million of them.

    Raises:
        MembersTooLong: those that are not known are too long together.
    """
    try:
        known = _only_known.decode(raw)
    except msgspec.ValidationError:
        known = _known.decode(raw)
        if len(raw) - sum(len(memoryview(value)) for value in msgspec.structs.astuple(known)) > _UNKNOWN_BYTES:
            raise MembersTooLong from None
        return _members.decode(raw)
    return {name: value for name, value in msgspec.structs.asdict(known).items() if value is not _ABSENT}


def _requested(members: dict[str, msgspec.Raw], most: int) -> tuple[str, ...]:
    names: list[str] = []
    param = "model"
    try:
        if (model := members.get("model")) is not None:
            names.append(_model.decode(model))
        param = "models"
        if (models := members.get("models")) is not None:
            if len(memoryview(models)) > most * _LONGEST_MODEL_WRITTEN:
                raise TooManyModels(f"The request asks for more than {most} models.", param=param)
            names.extend(_models.decode(models))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelInvalid(param=param) from None
    if len(names) > most:
        raise TooManyModels(f"The request asks for more than {most} models.", param=param)
    if not names or not all(map(_is_name, names)):
        raise ModelInvalid(param="model" if "models" not in members else "models")
    return tuple(dict.fromkeys(names))


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_MODEL and min(name) >= _FIRST_PRINTABLE and _DELETE not in name
