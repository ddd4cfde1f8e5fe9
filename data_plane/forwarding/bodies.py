"""Request bodies: reads them within a limit, parses what routing needs, and writes them again otherwise unchanged.

Only the top level of the JSON object is taken apart; every value but the model's goes on as the very bytes that came.
Of a member that is given twice the last one counts, here and upstream, since only one is forwarded. A long body is
taken apart in steps (`long_bodies`), with the same result.
"""

from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from data_plane.errors import (
    BodyInvalid,
    BodyTooDeep,
    BodyTooLarge,
    BodyTooSlow,
    ModelInvalid,
    TooManyMembers,
    TooManyModels,
)
from data_plane.forwarding import governed
from data_plane.forwarding.budget import Share
from data_plane.forwarding.json_slices import LONG
from data_plane.forwarding.long_bodies import Room, members_in_steps, pieces_of
from data_plane.forwarding.time_limit import TimeLimit
from data_plane.settings import RequestLimits

BODY_LIMIT: Final = 32 * 1024 * 1024
# A body over the limit is still read up to here and thrown away, so that its sender can read the answer.
_DISCARDED: Final = 4 * BODY_LIMIT
_LONGEST_MODEL: Final = 512
# As JSON: twelve bytes a character, and some blanks.
_LONGEST_MODEL_WRITTEN: Final = 16 * _LONGEST_MODEL
_FIRST_PRINTABLE: Final = " "
# Some editors and PowerShell write it before JSON.
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_DELETE: Final = "\x7f"

_DEFAULT_LIMITS: Final = RequestLimits()
_ABSENT: Final = msgspec.Raw(b"")
_NO_CHANGES: Final[Mapping[str, msgspec.Raw]] = {}

Receive = Callable[[], Awaitable[Any]]
Buffer = bytes | memoryview


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
        return bytes(self.members.get("stream", _ABSENT)) == b"true"

    def forwarded(
        self,
        model: str,
        parameters: Collection[str] | None,
        changes: Mapping[str, msgspec.Raw] = _NO_CHANGES,
        dropped: Collection[str] = (),
    ) -> Sequence[Buffer]:
        """The body for an upstream, in pieces.

        Args:
            model: the provider's spelling.
            parameters: the members that the provider takes, or None for all.
            changes: members that the gateway itself sets. The provider takes each of them.
            dropped: members that the model does not take.
        """
        members: dict[str, Any] = {
            name: value
            for name, value in self.members.items()
            if name != "models" and (parameters is None or name in parameters) and name not in dropped
        }
        members.update(changes)
        if self.length > LONG:
            members.pop("model", None)
            return pieces_of(members, model)
        members["model"] = model
        return (_encode(members),)


_encode: Final = msgspec.json.Encoder().encode
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_model: Final = msgspec.json.Decoder(str)
_models: Final = msgspec.json.Decoder(list[str])


async def read(receive: Receive, limit: TimeLimit, share: Share, *, within: float) -> Buffer:
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
        with limit.until(limit.clock() + within):
            message = await receive()
            if message["type"] == "http.request" and not message["more_body"] and len(message["body"]) <= BODY_LIMIT:
                whole: bytes = message["body"]
                share.hold(len(whole))
                return whole
            return await _read_pieces(receive, share, message)
    except TimeoutError:
        raise BodyTooSlow from None


async def _read_pieces(receive: Receive, share: Share, message: Any) -> Buffer:
    pieces: list[bytes] = []
    room: Room | None = None
    length = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece = message["body"]
        length += len(piece)
        if length <= BODY_LIMIT:
            share.hold(len(piece))
            if room is None and length > LONG:
                room = Room(BODY_LIMIT)
                room.write(b"".join(pieces))
                pieces.clear()
            if room is None:
                pieces.append(piece)
            else:
                room.write(piece)
        elif length > _DISCARDED:
            raise BodyTooLarge
        else:
            room = None
        if not message["more_body"]:
            break
        message = await receive()
    if length > BODY_LIMIT:
        raise BodyTooLarge
    return b"".join(pieces) if room is None else room.written()


def parse(raw: bytes, limits: RequestLimits = _DEFAULT_LIMITS) -> Body:
    """What a body asks for.

    Args:
        raw: not over `LONG`.
        limits: what it may have.

    Raises:
        BodyInvalid, BodyTooDeep, ModelInvalid: it is not a JSON object in UTF-8, or names no model.
        TooManyMembers, TooManyModels: it is over a bound.
        MemberAmbiguous, MemberInvalid: as `governed.check`.
    """
    raw = raw.removeprefix(_BYTE_ORDER_MARK)
    try:
        if not raw.isascii():
            raw.decode("utf-8")
        members = _members.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BodyInvalid from None
    except RecursionError:
        raise BodyTooDeep from None
    if len(members) > limits.members:
        raise TooManyMembers(f"The body has more than {limits.members} members.")
    return _checked(members, len(raw), limits)


def parse_in_steps(raw: Buffer, limits: RequestLimits = _DEFAULT_LIMITS) -> Generator[None, None, Body]:
    """What a long body asks for. Yields after each step.

    Raises:
        The errors of `parse`.
    """
    view = memoryview(raw)
    if bytes(view[: len(_BYTE_ORDER_MARK)]) == _BYTE_ORDER_MARK:
        view = view[len(_BYTE_ORDER_MARK) :]
    members = yield from members_in_steps(view, limits)
    return _checked(members, len(raw), limits)


def _checked(members: dict[str, msgspec.Raw], length: int, limits: RequestLimits) -> Body:
    governed.check(members)
    return Body(members, _requested(members, limits.models), length)


def _requested(members: dict[str, msgspec.Raw], most: int) -> tuple[str, ...]:
    names: list[str] = []
    param = "model"
    try:
        if (model := members.get("model")) is not None:
            if len(memoryview(model)) > _LONGEST_MODEL_WRITTEN:
                raise ModelInvalid(param=param)
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
