"""Holds: rest.parsers

What a body may be, before anybody asks what it means.
"""

import contextlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest.errors import BodyTooLarge, JsonInvalid, MediaTypeUnsupported
from rest.limits import MAX_BODY_BYTES
from rest.parsers import JsonParser, parse_json


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  \n",
        b"{",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 01}',
        b'{"a": 1,}',
        b'{"a": 1} {}',
        b'{"a": "\xff"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": "\x00"}',
        b'{"a": "line\nbreak"}',
        b'{"a": 1, "a": 1}',
        b'{"x": {"a": 1, "b": 2, "a": 3}}',
        b"[" * 2000 + b"]" * 2000,
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b"[" * 65 + b"]" * 65,
        b"[" * 200_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_strict_json_is_refused(body):
    with pytest.raises(JsonInvalid) as refused:
        parse_json(body)

    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("body", "parsed"),
    [
        (b"{}", {}),
        (b" [1, 2.5, true, null] ", [1, 2.5, True, None]),
        (b"12345678901234567890123", 12345678901234567890123),
        (b'{"a": "\\u0000"}', {"a": "\0"}),
        ('{"a": "🙂"}'.encode(), {"a": "🙂"}),
        (b'{"a": "\\ud83d\\ude42"}', {"a": "🙂"}),
        (b"[" * 64 + b"]" * 64, json.loads("[" * 64 + "]" * 64)),
    ],
)
def test_strict_json_is_read_as_it_is(body, parsed):
    assert parse_json(body) == parsed


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_whatever_python_writes_is_read_back(value):
    try:
        body = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return

    assert parse_json(body) == value


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise_anything_else(body):
    with contextlib.suppress(JsonInvalid):
        parse_json(body)


def test_no_refusal_quotes_the_body():
    with pytest.raises(JsonInvalid) as refused:
        parse_json(b'{"value": "sk-very-secret-value-0123456789", nonsense')

    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "*/*",
        "application/*",
        "application/jsonp",
        "application/problem+json",
        "application/json; charset=latin-1",
    ],
)
def test_what_does_not_say_that_it_is_json_is_refused(media_type):
    with pytest.raises(MediaTypeUnsupported):
        JsonParser().parse(io.BytesIO(b"{}"), media_type)


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=UTF-8", "application/json;v=1"])
def test_json_by_any_spelling_is_read(media_type):
    assert JsonParser().parse(io.BytesIO(b"{}"), media_type) == {}


def test_no_more_than_the_bound_is_read_of_a_body_without_end():
    class Endless(io.BytesIO):
        given = 0

        def read(self, size=-1):
            piece = b" " * min(size, 10_000)
            self.given += len(piece)
            return piece

    endless = Endless()
    with pytest.raises(BodyTooLarge):
        JsonParser().parse(endless, "application/json")

    assert endless.given == MAX_BODY_BYTES + 1
