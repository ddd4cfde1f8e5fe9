"""Holds: gateway_core.redaction"""

import re
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core import envelopes, sealing, tokens
from gateway_core.redaction import FULL_FORM_LENGTH, WHOLE_KEY, mask, redact
from tests import tiers
from tests.patience import stretched

VALUES = st.text(string.ascii_letters + string.digits + string.punctuation, min_size=1, max_size=120)
ALPHANUMERIC = "0123456789abcdefghijABCDEFGHIJ0123456789klmnopqrstuv"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", "***"),
        ("a", "***"),
        ("abcdefg", "***"),
        ("abcdefgh", "ab***"),
        ("abcdefghi", "ab***i"),
        ("abcdefghijkl", "abc***l"),
        ("abcdefghijklmnopqrstuvw", "abcde***vw"),
        ("abcdefghijklmnopqrstuvwx", "abcdefghij***uvwx"),
        ("sk-proj-0123456789abcdefghijklmnopqrstuvwxyz", "sk-proj-01***wxyz"),
    ],
)
def test_a_mask_is_the_first_10_and_last_4_and_less_of_a_short_value(value, shown):
    assert mask(value) == shown


@given(VALUES)
def test_a_mask_shows_the_ends_of_the_value_and_no_more_than_it_may(value):
    first, last = mask(value).split("***")[0], mask(value).rsplit("***")[-1]

    if "***" not in value:
        assert value.startswith(first)
        assert value.endswith(last)
    shown = len(mask(value)) - len("***")
    assert shown == (14 if len(value) >= 24 else 0 if len(value) < 8 else len(value) // 3)
    assert shown * 3 <= len(value) or len(value) >= 24


@pytest.mark.parametrize("prefix", [tokens.ACCESS_KEY_PREFIX, tokens.API_KEY_PREFIX])
def test_the_mask_of_a_token_leaves_over_30_of_its_random_characters_hidden(prefix):
    token = tokens.generate(prefix)

    assert mask(token) == f"{token[:10]}***{token[-4:]}"
    assert 40 - (10 - len(prefix)) > 30


UPSTREAM_KEYS = [
    "sk-" + ALPHANUMERIC,
    "sk-proj-" + ALPHANUMERIC + "_-T3Blbk",
    "sk-ant-api03-" + ALPHANUMERIC,
    "sk-or-v1-" + ALPHANUMERIC,
    "sk-short0123",
    "gsk_" + ALPHANUMERIC,
    "xai-" + ALPHANUMERIC,
    "AIza" + ALPHANUMERIC[:35],
    "ya29.a0" + ALPHANUMERIC,
    "csk-" + ALPHANUMERIC,
    "fw_" + ALPHANUMERIC[:24],
    "tgp_v1_" + ALPHANUMERIC[:43],
    "nvapi-" + ALPHANUMERIC,
    "pplx-" + ALPHANUMERIC,
    "hf_" + ALPHANUMERIC[:34],
    "r8_" + ALPHANUMERIC[:37],
    "AKIAIOSFODNN7EXAMPLE",
    "0123456789abcdef0123456789abcdef.ABCdef0123456789",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
]
SENTENCES = [
    "{}",
    "Incorrect API key provided: {}.",
    "Authorization: Bearer {}",
    "{{'x-api-key': '{}'}}",
    "(b'authorization', b'Bearer {}')",
    '{{"name": "prod", "value": "{}"}}',
    'body="{{\\"value\\": \\"{}\\"}}"',
    "https://example.com/v1?key={}&alt=sse",
    "first line\\n{} repeated",
    "a%20{}%20b",
    "keys={},{}",
    "<td>{}</td>",
    "ValueError({!r})",
]


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("key", [*UPSTREAM_KEYS, tokens.generate("gwk_"), tokens.generate("gwa_")])
def test_a_key_of_a_known_shape_leaves_any_text(key, sentence):
    text = sentence.format(key, key)

    redacted = redact(text)

    assert key not in redacted
    assert key[10:-4] not in redacted or len(key) < 24
    assert "***" in redacted
    assert redact(redacted) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        (f"Authorization: Bearer sk-{ALPHANUMERIC}", "Authorization: Bearer sk-0123456***stuv"),
        (f"api_key=sk-{ALPHANUMERIC}", "api_key=sk-0123456***stuv"),
        (f"api_key={ALPHANUMERIC}", "api_key=***"),
        ("authorization: bearer   hunter2, next", "authorization: bearer   ***, next"),
        ("Bearer hunter2 was refused", "Bearer *** was refused"),
        ("Authorization: Basic aHVudGVyMjo=", "Authorization: Basic ***"),
        ("proxy-authorization: hunter2", "proxy-authorization: ***"),
        ("{'X-Api-Key': 'hunter2', 'accept': '*/*'}", "{'X-Api-Key': '***', 'accept': '*/*'}"),
        ("(b'x-api-key', b'hunter2')", "(b'x-api-key', b'***')"),
        ("api_key=hunter2&model=m", "api_key=***&model=m"),
        ("GET /v1/models?key=hunter2", "GET /v1/models?key=***"),
        ('{"name":"n","value":"hunter2"}', '{"name":"n","value":"***"}'),
        ("DASHBOARD_PASSWORD=hunter2", "DASHBOARD_PASSWORD=***"),
        ("AWS_SECRET_ACCESS_KEY: hunter2", "AWS_SECRET_ACCESS_KEY: hunter2"),
        ("postgresql://gateway:hunter2@db:5432/gateway", "postgresql://***@db:5432/gateway"),
        ("redis://:hun@ter2@cache:6379/0", "redis://***@cache:6379/0"),
        ("Cookie: sessionid=hunter2", "Cookie: ***"),
    ],
)
def test_whatever_stands_in_the_place_of_a_credential_is_hidden(text, redacted):
    assert redact(text) == redacted


def test_the_keys_of_this_deployment_leave_nothing_behind():
    private, document = sealing.generate_private_key(), envelopes.generate_document_key()

    redacted = redact(f"SEALING_PRIVATE_KEYS={private},{private} DOCUMENT_KEYS={document},{document}\n{document}")

    assert redacted == "SEALING_PRIVATE_KEYS=***,*** DOCUMENT_KEYS=***,***\n***"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GET /v1/chat/completions 200 in 12.5 ms, 3 attempts, model=gpt-4o provider=openai",
        "task-management and risk-assessment-of-everything by hf_hub_download",
        "the password is wrong, or the secret; an api key, and a token",
        "the value: 3, value=7",
        "aigk_01h455vb4pex5vsknk084sn02q aigpk_01h455vb4pex5vsknk084sn02q",
        "https://example.com:8443/path?page=2#a@b",
        "mail someone@example.com",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "2026-11-22T22:20:00.123456Z gateway_core.redaction sha256:0123abcd",
        "sk-*** and gwk_ and Bearer",
        "gw-sealing-public.0011223344556677.AAAA",
        "{'accessKey': 'aigk_01h455vb4pex5vsknk084sn02q', 'keyRedacted': 'sk-proj-01***wxyz'}",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text):
    assert redact(text) == text


PIECES = st.sampled_from([*UPSTREAM_KEYS, *SENTENCES, "***", "Bearer", "://", "@", "key=", '"value": "', "word"])
GLUE = st.sampled_from([" ", ",", "'", '"', "\\n", "@", "://", "=", ": ", "&", "***", "/"])


@given(st.lists(st.tuples(PIECES, GLUE)))
def test_redacting_twice_changes_nothing_more(pieces):
    once = redact("".join(piece + glue for piece, glue in pieces))

    assert redact(once) == once


@given(st.text())
def test_any_text_can_be_redacted(text):
    assert isinstance(redact(text), str)


def seconds_for(text):
    began = time.perf_counter()
    redact(text)
    return time.perf_counter() - began


TIRESOME = [
    "a",
    "A",
    "=",
    '"',
    "\\n",
    "%20",
    "sk-",
    "sk-a_",
    "eyJ",
    "eyJ.",
    "://",
    "://a:",
    "://a@",
    "bearer",
    "?key=",
    "api_key",
    "api_key=",
    'value"',
    "gw-sealing-private.",
    "0123abcd:",
    "***",
    "AKIA",
    "secretsecret",
    "hf_",
    "hf_aaaaaaaaaaaaaaaa",
    "gwk_",
    "gwk_aaaaaaaa",
    "ya29.",
    "ABSK",
]


@pytest.mark.parametrize(
    "unit",
    [
        *TIRESOME,
        " ",
        "sk-a ",
        "bearer ",
        "bearer  \t",
        'api_key"  ',
        'password" , ',
        "authorization: ",
        '"value" ',
        "Bearer ***",
    ],
)
def test_no_text_makes_redaction_slow(unit):
    # 1 MB takes 0.4 s on a slow core; a search that begins again at each character takes longer by its length.
    assert seconds_for(unit * (tiers.number(300_000, full=1_000_000) // len(unit))) < stretched(10)


@pytest.mark.parametrize(
    "key",
    [
        tokens.generate(tokens.ACCESS_KEY_PREFIX),
        tokens.generate(tokens.API_KEY_PREFIX),
        *(lead + ALPHANUMERIC for lead in ("sk-", "sk-ant-", "xai-", "AIza", "gsk_", "tgp_v1_", "ABSK", "eyJ")),
    ],
)
def test_a_whole_key_is_known_by_its_shape_and_its_mask_is_not_one(key):
    assert re.search(WHOLE_KEY, key)
    assert not re.search(WHOLE_KEY, mask(key))


@pytest.mark.parametrize(
    "text", ["", "production", "sk-short", "a longer name of a key with blanks", "task-force-" * 3]
)
def test_a_name_is_not_taken_for_a_whole_key(text):
    assert not re.search(WHOLE_KEY, text)


def test_what_is_taken_for_a_whole_key_is_long_enough_for_the_full_mask():
    shortest = next(length for length in range(100) if re.search(WHOLE_KEY, ("eyJ" + "a" * 100)[:length]))

    assert shortest == FULL_FORM_LENGTH
