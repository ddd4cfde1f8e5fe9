"""Calls beside the surfaces: pictures, speech, moderation, reranking, files, batches, stored responses.

They pass as they came. Of a body only the model is read and written; of an answer only its usage is read.

Source: contract, section 9; docs/decisions/0087-calls-beside-the-surfaces.md.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from data_plane.errors import BadRequest, BodyInvalid, MethodNotAllowed, ModelInvalid
from data_plane.forwarding.bodies import Body, Buffer

# The calls whose body names the model that decides, by the provider's fact that they belong to.
BY_MODEL: Final = {
    **dict.fromkeys(("images/generations", "images/edits", "images/variations"), "images"),
    **dict.fromkeys(("audio/speech", "audio/transcriptions", "audio/translations"), "audio"),
    "moderations": "moderations",
    "rerank": "rerank",
}
# The calls for what a provider keeps for a key, with `{}` for an ID, and their methods.
KEPT: Final = {
    "files": ("GET", "POST"),
    "files/{}": ("GET", "DELETE"),
    "files/{}/content": ("GET",),
    "batches": ("GET", "POST"),
    "batches/{}": ("GET",),
    "batches/{}/cancel": ("POST",),
    "messages/batches": ("GET", "POST"),
    "messages/batches/{}": ("GET", "DELETE"),
    "messages/batches/{}/results": ("GET",),
    "messages/batches/{}/cancel": ("POST",),
    "responses/{}": ("GET", "DELETE"),
    "responses/{}/cancel": ("POST",),
    "responses/{}/input_items": ("GET",),
}
# The models that clients name without a provider, and that no price data list.
OPENAIS: Final = re.compile(r"(?:dall-e|gpt-image|chatgpt-image|tts|whisper|omni-moderation|text-moderation)-[\w.-]+")
USUAL_MODERATION: Final = "openai:omni-moderation-latest"
# Of a call that has none, or none that is read.
NO_BODY: Final = Body({}, ("",))
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}")
_BOUNDARY: Final = re.compile(
    rb"multipart/form-data\s*;.*?\bboundary=(?:\"([^\"\r\n]{1,70})\"|([^\s;\"]{1,70}))", re.IGNORECASE
)
# A file may be named as it likes, but its name stands behind the part's.
_NAME: Final = re.compile(
    rb'content-disposition\s*:\s*form-data\s*;\s*name=(?:"([^"\\]*)"|([^\s;"\\]+))'
    rb'(?:\s*;\s*filename\*?=(?:"[^"]*"|[^\s;"]+))*\s*;?\s*',
    re.IGNORECASE,
)
_ENCODED: Final = re.compile(rb"content-transfer-encoding", re.IGNORECASE)
_LONGEST_MODEL: Final = 512
_MOST_PARTS: Final = 1000


class KeysSeveral(BadRequest):
    """This access key may use several keys of the provider, and what it keeps belongs to one of them."""

    code = "keys_several"


class Asked(NamedTuple):
    """A call beside the surfaces."""

    # Behind the provider's base path.
    path: str
    # Of a provider's facts (`beside`): images, audio, moderations, rerank, files, batches, responses.
    family: str
    methods: tuple[str, ...]
    # Whether the model in the body decides; otherwise it is for what a provider keeps.
    is_by_model: bool

    def check(self, method: str) -> None:
        """Refuse another method than those of the call.

        Raises:
            MethodNotAllowed: it is another one.
        """
        if method not in self.methods:
            raise MethodNotAllowed(allow=", ".join(self.methods))


class Passing(NamedTuple):
    """A call beside the surfaces as it is sent."""

    asked: Asked
    method: bytes
    # Empty where there is no body.
    content_type: bytes = b""
    # A body that is not JSON, around its model: (before, after). Without a model all of it is before.
    around: tuple[Buffer, Buffer] | None = None
    # Whether an answer says that nothing was used, because nothing is charged.
    is_unmetered: bool = False

    def body(self, body: Body, model: str) -> Sequence[Buffer]:
        """What is sent, in pieces.

        Args:
            body: of a JSON call.
            model: the provider's spelling.
        """
        if self.around is not None:
            before, after = self.around
            return (before, model.encode(), after) if self.asked.is_by_model else (before,)
        return body.forwarded(model, None) if self.asked.is_by_model else (b"",)


def asked_of(path: str) -> Asked | None:
    """The call that a path means, however `/v1` and slashes are written; None for no such call."""
    parts = [part for part in path.split("/") if part]
    while parts[:1] == ["v1"]:
        del parts[0]
    plain = "/".join(parts)
    if family := BY_MODEL.get(plain):
        return Asked(f"/{plain}", family, ("POST",), is_by_model=True)
    for place in (1, 2):
        if len(parts) > place and _ID.fullmatch(parts[place]):
            shape = "/".join("{}" if number == place else part for number, part in enumerate(parts))
            if methods := KEPT.get(shape):
                return Asked(f"/{plain}", _family(parts), methods, is_by_model=False)
    if methods := KEPT.get(plain):
        return Asked(f"/{plain}", _family(parts), methods, is_by_model=False)
    return None


def _family(parts: Sequence[str]) -> str:
    return "batches" if parts[:2] == ["messages", "batches"] else parts[0]


class Form(NamedTuple):
    """A multipart body, taken apart at its model."""

    # The names of its parts.
    names: frozenset[str]
    model: str
    before: bytes
    after: bytes


def read_form(raw: bytes, content_type: bytes) -> Form:
    """Find the model in a multipart body.

    Parsers of forms differ: some take a line feed for a line's end, some unfold headers or decode a part. What they
    could read differently is refused.

    Raises:
        BodyInvalid: it is not multipart/form-data, or not certain where its parts begin or what they are named.
        ModelInvalid: it has no model, or several.

    Source: RFC 7578, RFC 2046 section 5.1.1.
    """
    found = _BOUNDARY.match(content_type)
    if found is None or content_type.lower().count(b"boundary") != 1:
        raise BodyInvalid("The body must be a JSON object or multipart/form-data with a boundary.")
    mark = b"--" + (found[1] or found[2])
    first, *rest = (b"\r\n" + raw).split(b"\r\n" + mark)
    if first or raw.count(mark) != len(rest) or not rest or not rest[-1].startswith(b"--"):
        raise BodyInvalid("It is not certain where the parts of the body begin.")
    if len(rest) > _MOST_PARTS:
        raise BodyInvalid(f"The body has more than {_MOST_PARTS} parts.")
    names: set[str] = set()
    models: list[tuple[int, bytes]] = []
    place = len(mark)
    for part in rest[:-1]:
        head, blank, content = part.partition(b"\r\n\r\n")
        name = _name_of(head) if blank else None
        if name is None:
            raise BodyInvalid("It is not certain how a part of the body is named.")
        names.add(name)
        if name == "model":
            if _ENCODED.search(head):
                raise ModelInvalid(param="model")
            models.append((place + len(head) + len(blank), content))
        place += len(part) + len(mark) + 2
    if len(models) != 1:
        raise ModelInvalid(param="model")
    [(start, content)] = models
    try:
        model = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ModelInvalid(param="model") from None
    if not 0 < len(model) <= _LONGEST_MODEL or not model.isprintable():
        raise ModelInvalid(param="model")
    return Form(frozenset(names), model, raw[:start], raw[start + len(content) :])


def _name_of(head: bytes) -> str | None:
    """A part's name; None if it is not certain.

    Args:
        head: from the end of the boundary on.
    """
    lines = head.split(b"\r\n")[1:]
    if head[:2] != b"\r\n" or any(line[:1] in b" \t" or b"\n" in line or b"\r" in line for line in lines):
        return None
    said = [line for line in lines if line.lower().startswith(b"content-disposition")]
    found = _NAME.fullmatch(said[0]) if len(said) == 1 else None
    return None if found is None else (found[1] or found[2]).decode("latin-1")
