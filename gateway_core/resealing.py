"""Moving sealed values to a new sealing key: what passes between the two planes, one JSON object a line.

    manage.py export_sealed | python -m data_plane reseal | manage.py import_sealed

    {"sealingKey": "<key ID>"}                                        first: the key to move to, by its ID alone
    {"account": …, "provider": …, "key": …, "sealed": "<base64>"}     each value; `key` is an `aigpk_…` ID, or `managed`
    {"count": 2}                                                      last: how many values there were

`reseal` sends the same lines back, each value sealed to the new key and with `was`, the SHA-256 of the blob that it
takes the place of. A stream without its last line was cut off. Nothing in it is secret: only sealed values travel.

Source: docs/decisions/0110-moving-sealing-keys.md.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final, TypeVar

import msgspec

from gateway_core.sealing import MANAGED_KEY, PROVIDER_KEY, Binding, Keyring, SealBroken, managed_binding

# A value of 4,096 characters, sealed, in base64, with its names.
MAX_LINE: Final = 16 * 1024
_MANAGED: Final = "managed"

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Line = TypeVar("_Line", bound=msgspec.Struct)


class StreamRefused(ValueError):
    """What came in is no stream of sealed values; the reason holds nothing of it."""


class Heading(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The first line: which sealing key the values are to be moved to."""

    sealing_key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]


class SealedValue(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One value, and where it belongs."""

    account: _Name
    provider: _Name
    key: _Name
    sealed: Annotated[bytes, msgspec.Meta(max_length=MAX_LINE)]
    # Only on the way back: the SHA-256 of the blob that `sealed` takes the place of, in hex.
    was: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None

    @property
    def is_managed(self) -> bool:
        """Whether it is the operator's own key for a provider."""
        return self.key == _MANAGED

    @property
    def binding(self) -> Binding:
        """What it is sealed to."""
        if self.is_managed:
            return managed_binding(self.provider)
        return Binding(self.account, self.provider, self.key, purpose=PROVIDER_KEY)


class Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line: how many values came before it."""

    count: Annotated[int, msgspec.Meta(ge=0)]


def managed_value(provider: str, sealed: bytes) -> SealedValue:
    """The operator's own key for a provider, as it travels."""
    binding = managed_binding(provider)
    assert (binding.purpose, binding.provider_key_id) == (MANAGED_KEY, _MANAGED)  # noqa: S101 -- else it is not found again
    return SealedValue(binding.account, provider, _MANAGED, sealed)


def digest(blob: bytes) -> str:
    """How a line names the blob that it takes the place of."""
    return hashlib.sha256(blob).hexdigest()


def encode(line: Heading | SealedValue | Ending) -> bytes:
    """A line, with its end."""
    return msgspec.json.encode(line) + b"\n"


def read(lines: Iterable[bytes]) -> tuple[Heading, Iterator[SealedValue]]:
    """The heading, and every value as it comes.

    Raises:
        StreamRefused: there is no heading. While values are taken: a line is none of ours, or the stream was cut off.
    """
    numbered = enumerate(lines, start=1)
    first = next(numbered, None)
    if first is None:
        raise StreamRefused("The input is empty: what should have written it failed, and has said why.")
    return _decode(Heading, *first), _values(numbered)


def _values(numbered: Iterator[tuple[int, bytes]]) -> Iterator[SealedValue]:
    count = 0
    for number, line in numbered:
        if line.startswith(b'{"count"'):
            if _decode(Ending, number, line).count != count or next(numbered, None) is not None:
                raise StreamRefused("The input does not hold as many values as its last line says.")
            return
        yield _decode(SealedValue, number, line)
        count += 1
    raise StreamRefused(f"The input was cut off after {count} values; run it again.")


def _decode(kind: type[_Line], number: int, line: bytes) -> _Line:
    if len(line) <= MAX_LINE and line.endswith(b"\n"):
        try:
            return _decoders[kind].decode(line)  # type: ignore[no-any-return]
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
            pass
    raise StreamRefused(f"Line {number} of the input is not a {kind.__name__}, or was cut off.")


_decoders: Final[dict[type[Any], msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Heading, SealedValue, Ending)
}


def reseal(
    heading: Heading, values: Iterable[SealedValue], keyring: Keyring, *, refuse: Callable[[SealedValue, str], None]
) -> Iterator[SealedValue]:
    """Each value sealed anew, to the key that the heading names.

    The new key comes from the keyring, never from the stream: whoever holds the control plane may choose among the
    data plane's own keys, and cannot have a value sealed to one of his.

    Args:
        heading: names the new key.
        values: as they were exported.
        keyring: opens them, and holds the new key.
        refuse: called for each value that does not open, with the reason; it is left out.

    Raises:
        StreamRefused: the keyring has no such key.
    """
    try:
        sealing_key = keyring.public(heading.sealing_key)
    except KeyError:
        raise StreamRefused(
            f"SEALING_PRIVATE_KEYS lacks the key {heading.sealing_key}, which the control plane seals to."
        ) from None
    for value in values:
        try:
            plain = keyring.open(value.sealed, value.binding)
        except SealBroken as fault:
            refuse(value, str(fault))
            continue
        sealed = sealing_key.seal(plain, value.binding)
        yield SealedValue(value.account, value.provider, value.key, sealed, was=digest(value.sealed))
