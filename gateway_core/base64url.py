"""Base64 for names, headers and environment variables: URL-safe alphabet, no padding, one spelling for every value.

Source: RFC 4648, sections 3.5 and 5.
"""

import base64


def encode(raw: bytes) -> str:
    """The base64 text of these bytes, without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The bytes behind the text.

    Raises:
        ValueError: the text is not exactly what `encode` makes. The message does not repeat the text.
    """
    raw: bytes | None
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raw = None
    # The standard decoder ignores foreign characters and unused bits, so the result is encoded again and compared.
    if raw is None or encode(raw) != text:
        raise ValueError("not unpadded URL-safe base64")
    return raw
