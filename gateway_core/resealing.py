"""Moving sealed values to a new sealing key: the stream between the two planes, one JSON object per line.

    manage.py export_sealed | python -m data_plane reseal | manage.py import_sealed

    {"sealingKey": "<key ID>"}                                        first: the key to move to, by its ID alone
    {"account": …, "provider": …, "key": …, "sealed": "<base64>"}     each value; `key` is an `aigpk_…` ID, or `managed`
    {"count": 2}                                                      last: how many values there were

`reseal` sends the same lines back, each value sealed to the new key and with `was`, the SHA-256 of the blob that it
replaces. A stream without its last line was cut off. The stream holds no secrets: it carries sealed values only.

Source: docs/decisions/0110-moving-sealing-keys.md.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final, TypeVar

import msgspec

from gateway_core.sealing import MANAGED_KEY, PROVIDER_KEY, Binding, Keyring, SealBroken, managed_binding

# Bytes. Enough for a value of 4,096 characters, sealed and in base64, with its names.
MAX_LINE: Final = 16 * 1024
_MANAGED: Final = "managed"

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Line = TypeVar("_Line", bound=msgspec.Struct)


class StreamRefused(ValueError):
    """The input is not a stream of sealed values. The message repeats nothing of the input."""


class Heading(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The first line: the ID of the sealing key that the values move to."""

    sealing_key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]


class SealedValue(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One sealed value, with the account, the provider and the key that it belongs to."""

    account: _Name
    provider: _Name
    key: _Name
    sealed: Annotated[bytes, msgspec.Meta(max_length=MAX_LINE)]
    # Only in the output of `reseal`: the SHA-256, in hex, of the blob that `sealed` replaces.
    was: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None

    @property
    def is_managed(self) -> bool:
        """Whether it is the operator's own key for a provider."""
        return self.key == _MANAGED

    @property
    def binding(self) -> Binding:
        """The binding that the value is sealed with."""
        if self.is_managed:
            return managed_binding(self.provider)
        return Binding(self.account, self.provider, self.key, purpose=PROVIDER_KEY)


class Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line: how many values came before it."""

    count: Annotated[int, msgspec.Meta(ge=0)]


def managed_value(provider: str, sealed: bytes) -> SealedValue:
    """The stream's form of the operator's own key for a provider."""
    binding = managed_binding(provider)
    assert (binding.purpose, binding.provider_key_id) == (MANAGED_KEY, _MANAGED)  # noqa: S101 -- else `SealedValue.binding` would differ
    return SealedValue(binding.account, provider, _MANAGED, sealed)


def digest(blob: bytes) -> str:
    """The SHA-256 of a sealed blob in hex, the form of `SealedValue.was`."""
    return hashlib.sha256(blob).hexdigest()


def encode(line: Heading | SealedValue | Ending) -> bytes:
    """One line of the stream as bytes, with its newline."""
    return msgspec.json.encode(line) + b"\n"


def read(lines: Iterable[bytes]) -> tuple[Heading, Iterator[SealedValue]]:
    """Return (heading, values). The values are read one by one.

    Raises:
        StreamRefused: there is no heading. Raised while iterating: a line is not a sealed value, or the stream was cut
            off.
    """
    numbered = enumerate(lines, start=1)
    first = next(numbered, None)
    if first is None:
        raise StreamRefused("The input is empty: the command that should have written it failed. Read its error.")
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
    """Yield each value again, sealed to the key that the heading names.

    The new key comes from the keyring, never from the stream. An attacker who controls the control plane can only
    choose among the data plane's own keys, and cannot have a value sealed to a key of the attacker.

    Args:
        heading: names the new key.
        values: as they were exported.
        keyring: opens them, and holds the new key.
        refuse: called with each value that does not open, and with the reason. That value is left out.

    Raises:
        StreamRefused: the keyring has no such key.
    """
    try:
        sealing_key = keyring.public(heading.sealing_key)
    except KeyError:
        raise StreamRefused(
            f"SEALING_PRIVATE_KEYS lacks the key {heading.sealing_key}, which the control plane seals values to."
        ) from None
    for value in values:
        try:
            plain = keyring.open(value.sealed, value.binding)
        except SealBroken as fault:
            refuse(value, str(fault))
            continue
        sealed = sealing_key.seal(plain, value.binding)
        yield SealedValue(value.account, value.provider, value.key, sealed, was=digest(value.sealed))
