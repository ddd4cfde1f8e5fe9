"""Holds: rest.fields

Fields take a JSON type as it is; forms refuse what they do not know.
"""

from datetime import UTC, datetime
from typing import Any

import pytest
from rest_framework.exceptions import ValidationError

from gateway_core import ids
from rest.errors import details_of
from rest.fields import (
    DescriptionField,
    IdField,
    NameField,
    StrictBooleanField,
    StrictChoiceField,
    StrictIntegerField,
    StrictListField,
    TimestampField,
)
from rest.serializers import StrictSerializer, camel, nearest


class Inner(StrictSerializer):
    must = NameField()
    may = NameField(required=False)


class Form(StrictSerializer):
    name = NameField()
    long_text = DescriptionField()
    count = StrictIntegerField(required=False, min_value=1, max_value=10)
    is_on = StrictBooleanField(required=False)
    kind = StrictChoiceField(["one", "two"], required=False)
    at = TimestampField(required=False)
    key_id = IdField(ids.Prefix.ACCESS_KEY, required=False)
    names = StrictListField(child=NameField(), required=False, max_length=3)
    inner = Inner(required=False)
    inners = Inner(many=True, required=False)


def read(data, *, partial=False):
    form = Form(data=data, partial=partial)
    form.is_valid(raise_exception=True)
    return dict(form.validated_data)


def faults(data, *, partial=False):
    with pytest.raises(ValidationError) as refused:
        read(data, partial=partial)
    return details_of(refused.value.detail)


KEY = ids.to_text(ids.Prefix.ACCESS_KEY, ids.new_id())


def test_python_names_inside_camel_case_outside():
    assert camel("access_key_configuration_id") == "accessKeyConfigurationId"
    assert read({"name": "a", "longText": "b"}) == {"name": "a", "long_text": "b"}
    assert set(faults({"name": "a", "long_text": "b"})) == {"long_text"}


WRONG: list[tuple[str, list[Any]]] = [
    ("name", [1, 1.5, True, None, [], {}, "", " ", "x" * 256]),
    ("name", ["a\0b", "a\nb", "a\tb", "\x7f"]),
    ("longText", [1, None, "a\0", "a\rb", "\x85", "x" * 256]),
    ("count", ["1", 1.0, True, None, 0, 11, 10**400, -(2**63) - 1]),
    ("isOn", ["true", "false", 0, 1, None, [], "on"]),
    ("kind", ["One", 1, None, ["one"], {}, True]),
    ("keyId", [1, None, [], "", "aigk_", KEY.upper(), KEY[:-1], KEY + "0"]),
    ("keyId", [f"aigac{KEY[4:]}", f"{KEY[:5]}8{KEY[6:]}", KEY[5:], f" {KEY}"]),
    ("names", ["a", {}, None, 1, ["a"] * 4]),
    ("inner", [1, "a", [], None]),
    ("inners", [1, "a", {}, None]),
    ("at", [1, None, "", "2027-01-31", "2027-01-31T12:00:00", "2027-01-31 12:00:00Z", "2027-02-30T12:00:00Z"]),
    ("at", ["2027-01-31T25:00:00Z", "2027-01-31T12:00:00+25:00", "2027-01-31T12:00:00ZZ"]),
    ("at", ["0001-01-01T00:00:00+14:00", "٢٠٢٧-01-31T12:00:00Z"]),
]


@pytest.mark.parametrize(("field", "wrong"), [(field, wrong) for field, several in WRONG for wrong in several])
def test_another_type_or_shape_is_refused_under_its_path(field, wrong):
    assert set(faults({"name": "a", field: wrong})) == {field}


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31t12:00:00z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00.5+02:00", datetime(2027, 1, 31, 10, 0, 0, 500000, tzinfo=UTC)),
        ("2027-01-31T12:00:00.123456789Z", datetime(2027, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_rfc_3339_writes_them(written, moment):
    assert read({"name": "a", "at": written})["at"] == moment


def test_times_are_written_in_utc_with_a_z():
    field = TimestampField()

    assert field.to_representation(datetime(2027, 1, 31, 12, tzinfo=UTC)) == "2027-01-31T12:00:00Z"
    assert field.to_representation(datetime(2027, 1, 31, 12, 0, 0, 5, tzinfo=UTC)) == "2027-01-31T12:00:00.000005Z"


def test_text_is_kept_as_it_was_written():
    text = "  ünïcode 🙂 ﷽ "

    assert read({"name": text, "longText": "two\nlines\tand a tab"}) == {
        "name": text,
        "long_text": "two\nlines\tand a tab",
    }
    assert read({"name": "🙂" * 255})["name"] == "🙂" * 255


def test_an_optional_text_may_be_empty():
    assert read({"name": "a", "longText": ""}) == {"name": "a", "long_text": ""}


def test_an_unknown_field_is_named_with_the_known_one_that_it_resembles():
    found = faults({"name": "a", "long-text": "x", "Count": 1, "colour": "red"})

    assert found == {
        "long-text": "There is no such field; did you mean longText?",
        "Count": "There is no such field; did you mean count?",
        "colour": "There is no such field.",
    }


def test_all_faults_come_at_once_each_under_its_path():
    found = faults(
        {
            "name": 1,
            "nom": "x",
            "names": ["a", 2],
            "inner": {"may": 1, "mist": 2},
            "inners": [{"must": "a"}, {"must": 3}],
        }
    )

    assert set(found) == {"name", "nom", "names[1]", "inner.must", "inner.may", "inner.mist", "inners[1].must"}


@pytest.mark.parametrize("body", [None, [], [{}], "a", 1, True])
def test_a_body_that_is_no_object_is_refused_as_a_whole(body):
    assert set(faults(body)) == {"$"}


def test_a_patch_takes_only_what_is_given():
    assert read({}, partial=True) == {}
    assert read({"count": 3}, partial=True) == {"count": 3}


def test_null_in_a_patch_clears_what_is_optional_and_is_refused_for_what_is_required():
    optional = ["longText", "count", "isOn", "kind", "at", "keyId", "names", "inner", "inners"]

    assert set(read(dict.fromkeys(optional), partial=True).values()) == {None}
    assert set(faults({"name": None}, partial=True)) == {"name"}


def test_a_patch_does_not_loosen_what_is_nested():
    assert set(faults({"inner": {}, "inners": [{"must": "a"}, {}]}, partial=True)) == {"inner.must", "inners[1].must"}
    assert set(faults({"inner": {"must": "a", "may": None}}, partial=True)) == {"inner.may"}


def test_no_refusal_repeats_what_was_sent():
    secret = "sk-secret-0123456789abcdef"
    wrong = dict.fromkeys(["count", "isOn", "kind", "at", "keyId", "names", "inner", "inners"], secret)

    found = faults({"name": secret * 20, **wrong})

    assert len(found) == 9
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("acess", "access"), ("Access", "access"), ("rule_s", "rules"), ("zzz", None), ("", None), ("x" * 100_000, None)],
)
def test_the_nearest_name_is_found_or_none(written, meant):
    assert nearest(written, ["access", "rules", "name"]) == meant
