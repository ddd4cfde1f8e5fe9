"""Redaction: how a secret is shown, and how secrets are removed from texts that others wrote.

`mask` is for a value that is known to be a secret. `redact` is the last resort for log lines and upstream messages. It
finds secrets by their shape or by the words before them, and may hide too much. Code must not log a secret and rely on
`redact`.

Source: docs/decisions/0004-masking.md.
"""

import re
from typing import Final

_HIDDEN: Final = "***"
# The mask of a long secret shows so many characters of its beginning and of its end.
MASK_LEAD: Final = 10
MASK_TAIL: Final = 4
# From this length on a value is long.
FULL_FORM_LENGTH: Final = 24
_SHORTEST_SHOWN: Final = 8

# A token begins where a word begins, or after an escape (`\n`, `%20`) in a repr or a URL. Our own tokens are found
# anywhere.
_BOUNDARY: Final = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"

# Each pattern is a literal, then one or two character classes to its end. The second class contains the first, so no
# text makes the search backtrack. The classes are wider than the alphabets of the keys, so that an unexpected character
# does not leave half a key in clear.
_OURS: Final = "gw[kai]_"
_LEADS: Final = {
    r"(?:sk-|xai-|AIza|nvapi-)": "[A-Za-z0-9_-]{8,}",  # OpenAI, Anthropic and similar; xAI; Google; NVIDIA
    # Groq and others; not hf_hub_download
    r"(?:gsk_|pplx-|csk-|hf_|fw_|r8_|tgp_v1_)": "[A-Za-z0-9]{12,}[A-Za-z0-9_-]*",
    r"ya29\.": "[A-Za-z0-9_.-]{8,}",  # Google's OAuth
    r"ABSK": "[A-Za-z0-9+/=]{16,}",  # Amazon Bedrock
    r"A[KS]IA": "[A-Z0-9]{16,}",  # Amazon
    r"eyJ": "[A-Za-z0-9_.-]{20,}",  # JSON web tokens
    r"[0-9a-f]{32}\.": "[A-Za-z0-9]{16,}",  # Z.ai
}
_TOKENS: Final = "|".join(lead + rest for lead, rest in _LEADS.items())
_TOKEN: Final = rf"{_OURS}[A-Za-z0-9]{{8,}}[A-Za-z0-9_-]*|{_BOUNDARY}(?:{_TOKENS})"

# A text that is a whole key, long enough for the full form of its mask, and not a mask itself. The dashboard's script
# searches for such a text by its mask. Only syntax that means the same in Python and JavaScript.
WHOLE_KEY: Final = rf"^(?=.{{{FULL_FORM_LENGTH}}})(?:{_OURS}|{'|'.join(_LEADS)})[!-)+-~]+$"

# Keys of this deployment itself: no part of them is shown.
_OWN_KEY: Final = r"gw-sealing-private\.[A-Za-z0-9_.-]*|(?<![A-Za-z0-9])[0-9a-f]{8}:[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"

_USERINFO: Final = r"(?P<scheme>://)[^\s/\"'<>]*@"

_SCHEME: Final = r"(?:bearer|basic|token)\\?\s{1,8}"
_FIELD: Final = (
    r"(?:authorization|api[-_]?key|access[-_]?token|password|passwd|secret|cookie"
    r"|(?<=[\"'])value(?=\\?[\"'])|(?<=[?&])key(?==))"
)
_BETWEEN: Final = (  # `: `, `=`, `": "`, `', b'`
    r"(?:\\?[\"']?\s{0,4}[:=]\s{0,4}|\\?[\"']\s{0,4},\s{0,4})(?:b?\\?[\"'])?"
)
_PLACE: Final = (
    rf"(?P<place>{_FIELD}{_BETWEEN}(?:{_SCHEME})?|bearer\s{{1,8}})(?P<credential>[^\s\"'\\,;&<>(){{}}\[\]]+)"
)

_SECRET: Final = re.compile(rf"{_OWN_KEY}|{_USERINFO}|(?i:{_PLACE})|(?P<token>{_TOKEN})")
_WHOLE_TOKEN: Final = re.compile(_TOKEN)
_MASKED: Final = re.compile(rf"[^*]{{0,{MASK_LEAD}}}\*\*\*[^*]{{0,{MASK_TAIL}}}")


def mask(value: str) -> str:
    """The display form of a secret: `first10***last4`; a short secret shows fewer characters.

    Args:
        value: the secret, 1 to 4096 printable ASCII characters.

    Returns:
        Below 24 characters at most a third of the value in clear; below 8, `***` alone.

    Source: docs/decisions/0004-masking.md.
    """
    if len(value) >= FULL_FORM_LENGTH:
        return f"{value[:MASK_LEAD]}{_HIDDEN}{value[-MASK_TAIL:]}"
    if len(value) < _SHORTEST_SHOWN:
        return _HIDDEN
    shown = len(value) // 3
    first = shown - shown // 3
    return f"{value[:first]}{_HIDDEN}{value[len(value) - (shown - first) :]}"


def redact(text: str) -> str:
    """Replace everything in a text that looks like a secret, or that stands where a secret usually stands.

    A token of a known shape becomes its mask, so that an operator can recognise it. Anything else becomes `***`.
    Redacting a text again changes nothing. The time is linear in the length of the text.

    Args:
        text: a log line, an upstream's message, a repr.
    """
    return _SECRET.sub(_replacement, text)


def _replacement(found: re.Match[str]) -> str:
    if found["token"] is not None:
        return mask(found["token"])
    if found["credential"] is not None:
        credential = found["credential"]
        if _MASKED.fullmatch(credential):
            return found[0]
        return found["place"] + (mask(credential) if _WHOLE_TOKEN.fullmatch(credential) else _HIDDEN)
    if found["scheme"] is not None:
        return f"{found['scheme']}{_HIDDEN}@"
    return _HIDDEN
