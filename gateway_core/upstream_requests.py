"""How requests to a custom provider may deviate from the format: the key's header, static headers, paths. Pure checks.

An account writes these itself, so they are not bound to the list of what passes from callers. What frames a message,
concerns one connection, or names another host, client or method is refused, and so is what looks like a secret.

Source: contract, section 8; RFC 9110, sections 5.6.2 and 7.6.1; docs/decisions/0077-providers-that-deviate.md.
"""

import re
from typing import Final, NamedTuple

from gateway_core import base_urls
from gateway_core.redaction import redact

LONGEST_NAME: Final = 100
LONGEST_VALUE: Final = 1024
LONGEST_PREFIX: Final = 32
LONGEST_PATH: Final = 1024
# Stands for the model's name in a path.
MODEL: Final = "{model}"

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_PRINTABLE: Final = re.compile(r"[ -~]*")
# Headers that frame a message, concern one connection, are the gateway's own, or belong to one request.
_NEVER: Final = frozenset(
    (
        *("accept", "connection", "cookie", "cookie2", "date", "early-data", "expect", "forwarded", "from", "host"),
        *("http2-settings", "idempotency-key", "keep-alive", "origin", "range", "set-cookie", "te", "trailer"),
        *("traceparent", "tracestate", "baggage", "transfer-encoding", "upgrade", "via", "alt-used", "max-forwards"),
        *("x-real-ip", "x-client-ip", "true-client-ip", "x-host", "x-method-override", "x-rewrite-url", "x-request-id"),
    )
)
_NEVER_LEADS: Final = (
    *("accept-", "content-", "gateway-", "if-", "proxy-", "sec-", "x-forwarded-", "x-http-method", "x-original-"),
    *("x-accel-", "access-control-"),
)
# Parts of a name that say that its value is a secret.
_SECRET_PARTS: Final = frozenset(
    (
        *("apikey", "auth", "authentication", "authorization", "bearer", "credential", "credentials", "jwt", "key"),
        *("passwd", "password", "secret", "sig", "signature", "token", "accesstoken", "subscriptionkey", "code"),
    )
)
# Long identifiers that are public.
_IDENTIFIERS: Final = frozenset({"openai-organization", "openai-project"})
# As Authorization has them.
_CREDENTIALS: Final = re.compile(r"(?i:basic|bearer|digest|negotiate|token|api-?key)\s+\S")
_RANDOM: Final = re.compile(r"[A-Za-z0-9+/_=]{32,}")
# As a base URL's path, with placeholders; base_urls checks the rest.
_TEMPLATE: Final = re.compile(r"/[^?#]*(?:\?(?P<query>[^#]*))?")
_SEGMENTS: Final = re.compile(r"[-_.]")
# A name that cannot be read as more than one segment of a path, however it is decoded.
_MODEL_IN_PATH: Final = re.compile(r"(?!\.+\Z)[A-Za-z0-9._~@:+-]{1,255}")


class Refused(ValueError):
    """A provider may not be asked so. The message states the rule and repeats nothing of the value."""


class SurfacePath(NamedTuple):
    """Where a surface stands, from the root of its host."""

    path: str
    # Without the question mark; empty where there is none.
    query: str

    @property
    def text(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path


def check_header_name(name: str) -> None:
    """Refuse a name under which the gateway would send neither a key nor a static header.

    Raises:
        Refused: it is malformed, or frames a message, concerns a connection, or is the gateway's own.
    """
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise Refused(f"A header's name is 1 to {LONGEST_NAME} letters, digits and hyphens, and begins with a letter.")
    folded = name.lower()
    if folded in _NEVER or folded.startswith(_NEVER_LEADS):
        raise Refused("The gateway sets this header itself, or it concerns one connection or request.")


def check_static_header(name: str, value: str) -> None:
    """Refuse a static header that may not be sent, or that looks like a secret.

    Raises:
        Refused: it is as `check_header_name` says, malformed, or belongs into a provider key.
    """
    check_header_name(name)
    if _names_secret(name):
        raise Refused("A header of this name holds a secret. Store it as a provider key, and name the header in auth.")
    _check_text(value, LONGEST_VALUE, "A header's value")
    if not value:
        raise Refused("A header's value must not be empty.")
    if _looks_like_secret(value) and name.lower() not in _IDENTIFIERS:
        raise Refused("This value looks like a secret. Store it as a provider key, and name the header in auth.")


def check_prefix(prefix: str) -> None:
    """Refuse what may not stand before a key.

    Raises:
        Refused: it is not printable ASCII, too long, or looks like a secret.
    """
    _check_text(prefix, LONGEST_PREFIX, "A prefix", may_end_in_space=True)
    if _looks_like_secret(prefix.strip()):
        raise Refused("This prefix looks like a secret. The key is stored as a provider key.")


def read_path(text: str) -> SurfacePath:
    """A surface's path in its parts, as it was written.

    Raises:
        Refused: it is not a path, or can be read in two ways, or holds what looks like a secret.
    """
    found = _TEMPLATE.fullmatch(text)
    if found is None or len(text) > LONGEST_PATH:
        raise Refused(f"A path begins with a slash, has no fragment and at most {LONGEST_PATH} characters.")
    path, query = text.partition("?")[0], found["query"] or ""
    if "//" in path or path.endswith("/") or "{" in query:
        raise Refused(f"A path has no empty parts and does not end with a slash; {MODEL} stands before the query.")
    try:
        # Its rules are those of a base URL. Any other brace than the placeholder's is none of them.
        base_urls.parse(f"https://path.example{path.replace(MODEL, 'model')}?{query}")
    except base_urls.BaseUrlRefused:
        raise Refused(
            f"A path and its query are ASCII without . or .. parts, and {MODEL} is the only placeholder."
        ) from None
    names = [part.partition("=")[0] for part in query.split("&")]
    if any(map(_names_secret, names)) or _looks_like_secret(text):
        raise Refused("This holds a secret. Store it as a provider key, and name its header in auth.")
    return SurfacePath(path, query)


def fits_path(model: str, path: str) -> bool:
    """Whether a model's name may stand in a path; true for every name where the path has no place for it."""
    return MODEL not in path or _MODEL_IN_PATH.fullmatch(model) is not None


def _check_text(text: str, longest: int, what: str, *, may_end_in_space: bool = False) -> None:
    if len(text) > longest or not _PRINTABLE.fullmatch(text):
        raise Refused(f"{what} is at most {longest} printable ASCII characters.")
    if text != (text.lstrip() if may_end_in_space else text.strip()):
        raise Refused(f"{what} must not begin {'' if may_end_in_space else 'or end '}with white space.")


def _names_secret(name: str) -> bool:
    return not _SECRET_PARTS.isdisjoint(_SEGMENTS.split(name.lower()))


def _looks_like_secret(text: str) -> bool:
    if redact(text) != text or _CREDENTIALS.match(text):
        return True
    # No word is so long and has digits.
    return any(re.search("[0-9]", run) and re.search("[A-Za-z]", run) for run in _RANDOM.findall(text))
