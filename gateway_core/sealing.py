"""Sealing: the control plane turns a provider key's value into a blob that only the data plane can open.

It is HPKE in base mode, one message per context: KEM MLKEM768-X25519 (X-Wing), KDF HKDF-SHA256, AEAD AES-256-GCM.
A blob is

    1 byte     0x01, the version of this format
    8 bytes    ID of the sealing key: the first 8 bytes of the SHA-256 of the public key
    the rest   HPKE's output: 1120 bytes of encapsulated key, then the ciphertext, 16 bytes longer than the value

HPKE's `info` is a label, those first 9 bytes and the binding (purpose, account, provider, provider key); the length of
each part stands before it. So a blob that is moved to another row, account or purpose does not open, and neither does
a blob that was changed.

The keys have text forms for the environment, each a single word:

    gw-sealing-public.<key ID, 16 hex digits>.<base64url of 1184 bytes of ML-KEM key and 32 bytes of X25519 key>
    gw-sealing-private.<the same key ID>.<base64url of 64 bytes of ML-KEM seed and 32 bytes of X25519 key>

Source: RFC 9180; draft-ietf-hpke-pq; docs/decisions/0005-sealing.md.
"""

import hashlib
import re
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from gateway_core import base64url

PROVIDER_KEY: Final = "provider-key"
"""The purpose for an account's own provider key."""
MANAGED_KEY: Final = "managed-key"
"""The purpose for a key of the operator, used for managed inference."""

_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_LABEL: Final = b"gateway sealed value 1"
_FORM: Final = b"\x01"
_ID_LENGTH: Final = 8
_HEADER_LENGTH: Final = len(_FORM) + _ID_LENGTH
_MLKEM_PUBLIC_LENGTH: Final = 1184
_MLKEM_SEED_LENGTH: Final = 64
_X25519_LENGTH: Final = 32
_PUBLIC: Final = "gw-sealing-public"
_PRIVATE: Final = "gw-sealing-private"
_SEPARATORS: Final = re.compile(r"[\s,]+")


class SealBroken(ValueError):
    """This sealed value does not open here: it was changed, moved, or sealed for someone else."""


class UnknownSealingKey(SealBroken):
    """This sealed value names a sealing key that is not in the keyring."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"No private key for the sealing key {key_id}.")
        self.key_id = key_id


class Binding(NamedTuple):
    """The place that a sealed value belongs to. A value opens only with the binding that it was sealed with.

    The IDs are those of the snapshot, as text; none may be empty.
    """

    account: str
    provider_id: str
    provider_key_id: str
    purpose: str = PROVIDER_KEY


def managed_binding(provider_id: str) -> Binding:
    """The binding of the operator's own key for a built-in provider. Such a key has no account and no ID."""
    return Binding(account="operator", provider_id=provider_id, provider_key_id="managed", purpose=MANAGED_KEY)


class SealingKey:
    """A public key: it seals values and cannot open them. The control plane holds only public keys."""

    __slots__ = ("_hpke_key", "_raw", "id")

    def __init__(self, raw: bytes) -> None:
        """Make the key ready. Use `parse` for the text form.

        Args:
            raw: 1184 bytes of ML-KEM key, 32 bytes of X25519 key.

        Raises:
            ValueError: the bytes are not two public keys, or the X25519 key is a point of low order.
        """
        self._raw = raw
        self._hpke_key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_LENGTH]),
            X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC_LENGTH:]),
        )
        self.id: str = hashlib.sha256(raw).digest()[:_ID_LENGTH].hex()
        # The library detects a point of low order only when the key is used. Better now than at the first provider key.
        _SUITE.encrypt(b"", self._hpke_key)

    @classmethod
    def parse(cls, text: str) -> "SealingKey":
        """The key from its text form.

        Raises:
            ValueError: the text is not a public sealing key. The message does not repeat it: it may be a private key.
        """
        key_id, raw = _split(text, _PUBLIC, _MLKEM_PUBLIC_LENGTH + _X25519_LENGTH)
        key = cls(raw)
        _check_id(key.id, key_id)
        return key

    @property
    def text(self) -> str:
        """The text form of the key. It is not a secret."""
        return f"{_PUBLIC}.{self.id}.{base64url.encode(self._raw)}"

    def __repr__(self) -> str:
        return f"SealingKey({self.id})"

    def seal(self, value: str, binding: Binding) -> bytes:
        """Seal a value with this binding, for the holders of the private key. Two seals of one value are never equal.

        Raises:
            ValueError: the value is not Unicode text, or a part of the binding is empty.
        """
        plain = _utf8(value)
        if plain is None:
            raise ValueError("the value holds a lone surrogate")
        header = _FORM + bytes.fromhex(self.id)
        return header + _SUITE.encrypt(plain, self._hpke_key, info=_info(header, binding))


class _OpeningKey:
    """A private key with its public half."""

    __slots__ = ("hpke_key", "public")

    def __init__(self, raw: bytes) -> None:
        mlkem_key = MLKEM768PrivateKey.from_seed_bytes(raw[:_MLKEM_SEED_LENGTH])
        x25519_key = X25519PrivateKey.from_private_bytes(raw[_MLKEM_SEED_LENGTH:])
        self.hpke_key = MLKEM768X25519PrivateKey(mlkem_key, x25519_key)
        self.public = SealingKey(
            mlkem_key.public_key().public_bytes_raw() + x25519_key.public_key().public_bytes_raw(),
        )

    @classmethod
    def parse(cls, text: str) -> "_OpeningKey":
        key_id, raw = _split(text, _PRIVATE, _MLKEM_SEED_LENGTH + _X25519_LENGTH)
        key = cls(raw)
        _check_id(key.public.id, key_id)
        return key


class Keyring:
    """The private keys with which a data-plane worker opens sealed values; several while values move to a new key."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[_OpeningKey]) -> None:
        """Make a keyring of these keys. Use `parse` for their text forms."""
        self._keys = {key.public.id: key for key in keys}

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """The keyring from private keys' text forms, separated by commas or white space.

        Raises:
            ValueError: there is no key, a key is malformed, or a key is given twice. The message names the position of
                the key, never its content.
        """
        keys: dict[str, _OpeningKey] = {}
        for position, entry in enumerate(filter(None, _SEPARATORS.split(text)), start=1):
            try:
                key = _OpeningKey.parse(entry)
            except ValueError as refusal:
                raise ValueError(f"private sealing key {position}: {refusal}") from None
            if key.public.id in keys:
                raise ValueError(f"private sealing key {position}: the same as one before it")
            keys[key.public.id] = key
        if not keys:
            raise ValueError("there is no private sealing key")
        return cls(keys.values())

    @property
    def ids(self) -> tuple[str, ...]:
        """The IDs of the keys, in the order given."""
        return tuple(self._keys)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self.ids)})"

    def public(self, id: str) -> SealingKey:  # noqa: A002 - the domain's word; the built-in is not used here
        """The public half of a key of this keyring.

        Raises:
            KeyError: the keyring has no such key.
        """
        return self._keys[id].public

    def open(self, blob: bytes, binding: Binding) -> str:
        """Open a value that was sealed with this binding. It takes about 120 µs: do it per document, not per request.

        Raises:
            UnknownSealingKey: the keyring lacks the key that the blob names.
            SealBroken: the blob does not open, for any other reason. The error holds nothing of the value.
        """
        key_id = sealing_key_id(blob)
        key = self._keys.get(key_id)
        if key is None:
            raise UnknownSealingKey(key_id)
        value = _opened(key.hpke_key, blob, binding)
        if value is None:
            raise SealBroken(SealBroken.__doc__)
        return value


def sealing_key_id(blob: bytes) -> str:
    """The ID of the sealing key that a blob names. It is not proven until the blob opens.

    Raises:
        SealBroken: the blob does not have our format.
    """
    if len(blob) <= _HEADER_LENGTH or not blob.startswith(_FORM):
        raise SealBroken(SealBroken.__doc__)
    return blob[len(_FORM) : _HEADER_LENGTH].hex()


def generate_private_key() -> str:
    """A new private key in its text form, which is a secret. `public_key_of` gives the text for the control plane."""
    raw = MLKEM768PrivateKey.generate().private_bytes_raw() + X25519PrivateKey.generate().private_bytes_raw()
    return f"{_PRIVATE}.{_OpeningKey(raw).public.id}.{base64url.encode(raw)}"


def public_key_of(private_text: str) -> str:
    """The text form of a private key's public half.

    Raises:
        ValueError: it is not the text of a private sealing key. Does not repeat the text.
    """
    return _OpeningKey.parse(private_text).public.text


def _split(text: str, lead: str, length: int) -> tuple[str, bytes]:
    """Return (key_id, raw): the ID that a text form claims and the bytes of the key.

    The errors do not repeat the text, which may be a secret.
    """
    found_lead, _, rest = text.strip().partition(".")
    key_id, _, encoded = rest.partition(".")
    if found_lead != lead:
        raise ValueError(f"it does not begin with {lead}")
    raw = base64url.decode(encoded)
    if len(raw) != length:
        raise ValueError(f"it holds {len(raw)} bytes of key instead of {length}")
    return key_id, raw


def _check_id(actual: str, claimed: str) -> None:
    if actual != claimed:
        raise ValueError("the key does not fit its ID: a character was changed")


def _opened(key: MLKEM768X25519PrivateKey, blob: bytes, binding: Binding) -> str | None:
    """The opened value, or None where the blob does not open.

    The caller raises the error outside of any `except`. A decoding error holds the plain bytes, and inside an `except`
    it would become the context of the new error.
    """
    try:
        plain = _SUITE.decrypt(blob[_HEADER_LENGTH:], key, info=_info(blob[:_HEADER_LENGTH], binding))
        return plain.decode("utf-8")
    except (InvalidTag, ValueError):
        return None


def _utf8(value: str) -> bytes | None:
    """The bytes of a text, or None where it holds a lone surrogate.

    The caller raises the error outside of any `except`, because an encoding error holds the value.
    """
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        return None


def _info(header: bytes, binding: Binding) -> bytes:
    """HPKE's `info`. The length of each part stands before it, so that two bindings never give the same bytes."""
    if not all(binding):
        raise ValueError("a part of the binding is empty")
    parts = (
        header,
        binding.purpose.encode("utf-8"),
        binding.account.encode("utf-8"),
        binding.provider_id.encode("utf-8"),
        binding.provider_key_id.encode("utf-8"),
    )
    return _LABEL + b"".join(struct.pack(">I", len(part)) + part for part in parts)
