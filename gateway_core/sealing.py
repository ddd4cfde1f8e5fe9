"""Sealing: the control plane turns a provider key's value into a blob that only the data plane can open.

HPKE in base mode with one message a context: KEM MLKEM768-X25519 (X-Wing), KDF HKDF-SHA256, AEAD AES-256-GCM. A blob is

    1 byte     0x01, the blob's form
    8 bytes    ID of the sealing key: the first 8 bytes of the SHA-256 of the public key
    the rest   HPKE's output: 1120 bytes of encapsulated key, then the ciphertext, 16 bytes longer than the value

HPKE's `info` is a label, those first 9 bytes and the binding (purpose, account, provider, provider key), each part led
by its length. So a blob that is moved to another row, account or purpose does not open, and nothing in it can be
changed.

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
"""The purpose of a seal over an account's own provider key."""
MANAGED_KEY: Final = "managed-key"
"""The purpose of a seal over a key of the operator's, for managed inference."""

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
    """What a sealed value belongs to. It opens only under the very binding that it was sealed with.

    The IDs are those of the snapshot, as text; none may be empty.
    """

    account: str
    provider_id: str
    provider_key_id: str
    purpose: str = PROVIDER_KEY


def managed_binding(provider_id: str) -> Binding:
    """What the operator's own key for a built-in provider is bound to; it has no account and no ID."""
    return Binding(account="operator", provider_id=provider_id, provider_key_id="managed", purpose=MANAGED_KEY)


class SealingKey:
    """A public key: it seals and cannot open. The control plane has nothing else."""

    __slots__ = ("_hpke_key", "_raw", "id")

    def __init__(self, raw: bytes) -> None:
        """Make the key ready. Use `parse` for the text form.

        Args:
            raw: 1184 bytes of ML-KEM key, 32 bytes of X25519 key.

        Raises:
            ValueError: the bytes are no pair of public keys, or one that would seal to nobody.
        """
        self._raw = raw
        self._hpke_key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_LENGTH]),
            X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC_LENGTH:]),
        )
        self.id: str = hashlib.sha256(raw).digest()[:_ID_LENGTH].hex()
        # A point of low order only shows when it is used; better at start-up than at the first provider key.
        _SUITE.encrypt(b"", self._hpke_key)

    @classmethod
    def parse(cls, text: str) -> "SealingKey":
        """The key from its text form.

        Raises:
            ValueError: it is no public sealing key. Does not repeat the text, which may be a private key.
        """
        key_id, raw = _split(text, _PUBLIC, _MLKEM_PUBLIC_LENGTH + _X25519_LENGTH)
        key = cls(raw)
        _check_id(key.id, key_id)
        return key

    @property
    def text(self) -> str:
        """The text form; no secret."""
        return f"{_PUBLIC}.{self.id}.{base64url.encode(self._raw)}"

    def __repr__(self) -> str:
        return f"SealingKey({self.id})"

    def seal(self, value: str, binding: Binding) -> bytes:
        """The value, sealed to the holders of the private key and to this binding. No two seals are alike.

        Raises:
            ValueError: the value is not Unicode text, or a part of the binding is empty.
        """
        plain = _utf8(value)
        if plain is None:
            raise ValueError("the value holds a lone surrogate")
        header = _FORM + bytes.fromhex(self.id)
        return header + _SUITE.encrypt(plain, self._hpke_key, info=_info(header, binding))


class _OpeningKey:
    """A private key, its public half beside it."""

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
    """Private keys: what a data-plane worker opens sealed values with. Several live while values move to a new one."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[_OpeningKey]) -> None:
        """Gather the keys. `parse` makes them."""
        self._keys = {key.public.id: key for key in keys}

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """The keyring from private keys' text forms, separated by commas or white space.

        Raises:
            ValueError: none at all, one that is malformed, or one given twice. Names the position, never the content.
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
        """The public half of a key of the ring.

        Raises:
            KeyError: the ring has no such key.
        """
        return self._keys[id].public

    def open(self, blob: bytes, binding: Binding) -> str:
        """The value that was sealed with this binding. Costs about 120 µs: once for a document, not for a request.

        Raises:
            UnknownSealingKey: the ring lacks the key that the blob names.
            SealBroken: it does not open, whatever the reason; the error holds nothing of what is inside.
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
    """Which sealing key a blob says it was sealed with. Not proven until it opens.

    Raises:
        SealBroken: the blob is none of ours.
    """
    if len(blob) <= _HEADER_LENGTH or not blob.startswith(_FORM):
        raise SealBroken(SealBroken.__doc__)
    return blob[len(_FORM) : _HEADER_LENGTH].hex()


def generate_private_key() -> str:
    """A new private key in its text form, a secret; `public_key_of` tells what to give the control plane."""
    raw = MLKEM768PrivateKey.generate().private_bytes_raw() + X25519PrivateKey.generate().private_bytes_raw()
    return f"{_PRIVATE}.{_OpeningKey(raw).public.id}.{base64url.encode(raw)}"


def public_key_of(private_text: str) -> str:
    """The text form of a private key's public half.

    Raises:
        ValueError: it is not the text of a private sealing key. Does not repeat the text.
    """
    return _OpeningKey.parse(private_text).public.text


def _split(text: str, lead: str, length: int) -> tuple[str, bytes]:
    """The key ID that a text form claims, and its bytes. The errors do not repeat the text, which may be a secret."""
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
    """The value, or None.

    The caller raises, outside of any `except`: a decoding error holds the plain bytes, and would stay on as context.
    """
    try:
        plain = _SUITE.decrypt(blob[_HEADER_LENGTH:], key, info=_info(blob[:_HEADER_LENGTH], binding))
        return plain.decode("utf-8")
    except (InvalidTag, ValueError):
        return None


def _utf8(value: str) -> bytes | None:
    """The bytes, or None. The caller raises, outside of any `except`: an encoding error holds the value."""
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        return None


def _info(header: bytes, binding: Binding) -> bytes:
    """What HPKE binds: every part led by its length, so that no two bindings read alike."""
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
