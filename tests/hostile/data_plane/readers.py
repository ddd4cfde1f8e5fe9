"""How upstreams in several languages read a body, and random bodies that each of them might read otherwise.

A reader says what its upstream would do; `Judged` says what the gateway allowed. Bodies are made of members whose
names, escapes, order, nesting and values are chosen at random among those that some upstream mistakes for another's.
"""

import json
import random
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

CAP: Final = 1000
MAXIMA: Final = ("max_tokens", "max_completion_tokens", "n_predict", "num_predict", "max_new_tokens")
COUNTS: Final = ("n", "best_of")
ROUTING: Final = ("fallbacks", "route", "provider", "plugins", "api_base", "base_url", "custom_llm_provider", "engine")
CONTAINERS: Final = ("extra_body", "options", "generationConfig", "parameters")


class Pairs(list[tuple[str, Any]]):
    """An object as it was written: every member, in order."""


def written(raw: bytes) -> Pairs:
    """A body, nothing lost."""
    found = json.loads(raw, object_pairs_hook=Pairs)
    assert isinstance(found, Pairs)
    return found


class Reader(NamedTuple):
    """One kind of upstream."""

    name: str
    # The form in which it compares names.
    key: Callable[[str], str]
    # Of members of one name it takes the last one, else the first.
    takes_last: bool = True
    refuses_duplicates: bool = False
    # Whether it reads what stands in a container as if it stood beside it.
    merges: bool = False
    # Whether "true" and 1 are true, and "5" is 5.
    is_lax: bool = False
    # Whether `__proto__` and `constructor` give what is missing.
    has_prototypes: bool = False


class Obeyed(NamedTuple):
    """What an upstream would do."""

    models: frozenset[str]
    maxima: tuple[int, ...]
    answers: int
    is_streaming: bool
    routes: frozenset[str]


def _go(name: str) -> str:
    return name.replace("\u212a", "k").replace("\u017f", "s").lower()


def _java(name: str) -> str:
    return "".join(one.upper().lower() for one in name).replace("\u0307", "")


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _lenient(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold().strip().replace("-", "_")
    return "".join(one for one in plain if unicodedata.category(one) not in {"Cf", "Cc", "Mn"})


def _same(name: str) -> str:
    return name


READERS: Final = (
    Reader("Go", _go),
    Reader("Python", _same, merges=True, is_lax=True),
    Reader("JavaScript", _same, has_prototypes=True, is_lax=True),
    Reader("Rust", _same, refuses_duplicates=True),
    Reader("Rust, values", _same, merges=True),
    Reader("C", lambda name: name.partition("\0")[0].lower(), takes_last=False),
    Reader(".NET", str.upper),
    Reader("Java", _java),
    Reader("protocol buffers", _camel),
    Reader("most lenient", _lenient, merges=True, is_lax=True, has_prototypes=True),
)


def obeyed(reader: Reader, body: Pairs) -> Obeyed | None:
    """What a reader does with a body; None if it refuses it."""
    read = _read(reader, body)
    if read is None:
        return None

    def of(name: str) -> Any:
        return read.get(reader.key(name))

    models = {of("model")} | set(of("models") if isinstance(of("models"), list) else ())
    counts = [_whole(of(name), reader) for name in COUNTS]
    stream = of("stream")
    return Obeyed(
        models=frozenset(model for model in models if isinstance(model, str)),
        maxima=tuple(most for name in MAXIMA if (most := _whole(of(name), reader)) is not None),
        answers=max([1, *(count for count in counts if count is not None)]),
        is_streaming=stream is True or (reader.is_lax and stream in ("true", "yes", 1)),
        routes=frozenset(name for name in ROUTING if reader.key(name) in read),
    )


def _whole(value: Any, reader: Reader) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and reader.is_lax and value.isdigit():
        return int(value)
    return int(value) if isinstance(value, int | float) else None


def _read(reader: Reader, body: Pairs) -> dict[str, Any] | None:
    read: dict[str, Any] = {}
    for name, value in body:
        key = reader.key(name)
        if key in read and reader.refuses_duplicates:
            return None
        if reader.takes_last or key not in read:
            read[key] = value
    if reader.merges:
        for container in CONTAINERS:
            for inner in _objects(read.get(reader.key(container))):
                read |= {reader.key(name): value for name, value in inner}
    if reader.has_prototypes:
        for prototype in ("__proto__", "constructor"):
            for inner in _objects(read.get(prototype)):
                read = dict(inner) | read
    return read


def _objects(value: Any) -> Iterator[Pairs]:
    if isinstance(value, Pairs):
        yield value
        for _, inner in value:
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


# ── random bodies ──

_LOOKS: Final = {
    "k": "\u212a\uff4b",
    "s": "\u017f\uff53",
    "i": "\u0131\u0130",
    "m": "\uff4d",
    "e": "\u0435\u00e9",
    "n": "\uff4e",
}
_MARKS: Final = ("\u200b", "\u00ad", "\ufeff", "\0", " ", "\t", "\u0301", "-", "_")


class Bodies:
    """Random bodies, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def make(self) -> bytes:
        """The next body."""
        chance = self._chance
        members = [(self._text("model"), self._model(allowed=0.8))] if chance.random() < 0.97 else []
        members.append(('"messages"', "[]"))
        members += [self._member() for _ in range(chance.choice((0, 1, 1, 2, 3)))]
        chance.shuffle(members)
        space = chance.choice(("", "", " ", "\n\t"))
        return ("{" + ",".join(f"{space}{name}{space}:{value}" for name, value in members) + "}").encode("utf-8")

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The next headers, in lower case as ASGI has them."""
        chance = self._chance
        names = chance.sample(HEADERS, k=4)
        spelled = (name.replace("-", chance.choice(("-", "-", "_"))) for name in names)
        return [(name.encode(), b"http://elsewhere.example") for name in spelled]

    def _member(self) -> tuple[str, str]:
        chance = self._chance
        kind = chance.random()
        if kind < 0.5:
            return self._governed()
        if kind < 0.65:
            return self._text(self._spelling(chance.choice(ROUTING))), chance.choice(('["forbidden"]', '"x"', "{}"))
        if kind < 0.85:
            container = chance.choice((*CONTAINERS, *CONTAINERS, "__proto__", "constructor", "metadata", "tools"))
            inner = ":".join(self._governed())
            deep = chance.choice(("{%s}", '{"google":{%s}}', '[{"a":{%s}}]')) % inner
            return self._text(self._spelling(container, odds=0.2)), deep
        return chance.choice((('"temperature"', "0.5"), ('"user"', '"x"'), ('"my_own"', '{"model":"forbidden"}')))

    def _governed(self) -> tuple[str, str]:
        chance = self._chance
        name = chance.choice(("model", "model", "models", "stream", *MAXIMA, *COUNTS))
        values = {
            "model": lambda: self._model(allowed=0.3),
            "models": lambda: f"[{self._model(allowed=0.3)}]",
            "stream": lambda: chance.choice(("true", "false", "null", '"true"', "1")),
        }
        numbers = ("5", "999", "1000", "5000", "-1", "null", '"7000"', "1e9", "0", "3")
        value = values.get(name, lambda: chance.choice(numbers))()
        return self._text(self._spelling(name)), value

    def _model(self, *, allowed: float) -> str:
        chance = self._chance
        if chance.random() < allowed:
            return chance.choice(('"mine:small"', '"mine:small"', '"mine\\u003asmall"', '"small"'))
        return chance.choice(('"mine:forbidden"', '"forbidden"', '"mine/forbidden"', '"FORBIDDEN"'))

    def _spelling(self, name: str, *, odds: float = 0.7) -> str:
        chance = self._chance
        if chance.random() > odds:
            return name
        how = chance.randrange(6)
        if how == 0:
            return "".join(one.upper() if chance.random() < 0.4 else one for one in name)
        if how == 1:
            return "".join(
                chance.choice(_LOOKS[one]) if one in _LOOKS and chance.random() < 0.6 else one for one in name
            )
        if how == 2:
            return _camel(name)
        if how == 3:
            return name.replace("_", chance.choice(("-", "", " ")))
        place = chance.randrange(len(name) + 1)
        return name[:place] + chance.choice(_MARKS) + name[place:] + chance.choice(("", "", "x", "\0x"))

    def _text(self, text: str) -> str:
        chance = self._chance
        return '"' + "".join(self._character(one, chance.random()) for one in text) + '"'

    def _character(self, one: str, odds: float) -> str:
        if odds < 0.12 or one < " " or one in '"\\':
            return (
                "".join(f"\\u{unit:04x}" for unit in one.encode("utf-16-be")) if len(one) > 1 else f"\\u{ord(one):04X}"
            )
        return one


# What a header of a caller must never mean to an upstream, as a server on WSGI names it.
HEADERS: Final = (
    *("host", "content-length", "transfer-encoding", "x-forwarded-for", "x-http-method-override", "remote-user"),
    *("x-portkey-custom-host", "helicone-target-url", "authorization", "api-key", "cookie", "x-original-url"),
    *("openai-organization", "anthropic-beta", "x-stainless-os", "user-agent", "session-id", "x-app", "traceparent"),
)
HARMLESS: Final = frozenset(
    (
        *("HTTP_OPENAI_ORGANIZATION", "HTTP_ANTHROPIC_BETA", "HTTP_X_STAINLESS_OS", "HTTP_USER_AGENT"),
        *("HTTP_SESSION_ID", "HTTP_X_APP", "HTTP_TRACEPARENT"),
    )
)


def wsgi(headers: dict[bytes, bytes]) -> frozenset[str]:
    """Headers as a server on WSGI names them."""
    return frozenset("HTTP_" + name.decode().upper().replace("-", "_") for name in headers)
