"""Holds: configurations.schema

The OpenAPI schemas of `access` and `router` are written by hand; here they meet what the check takes and refuses.
"""

import re

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configurations import router as routers
from configurations import schema
from configurations import scope as scopes
from configurations.faults import Faults
from gateway_core.catalog import BUILT_IN
from providers.provider_names import KnownProviders

# What a schema cannot tell: whether a provider is known, what is a duplicate, what goes with what.
BEYOND_SCHEMAS = re.compile(
    r"no provider with this ID|same (provider|model) as|already|no managed inference|takes no keys|needs at least one"
    r"|not the one|no provider key with|at most 255|needs a provider, a model"
)
TEXTS = st.sampled_from(
    [
        "",
        " ",
        "openai",
        "groq",
        "openai:gpt-4o",
        "openai:",
        ":a",
        "a/b",
        "x /m",
        "/",
        "a:b/c",
        "gpt-4o",
        "é:ü",
        "a\tb",
        7,
        None,
    ]
)
ENTRIES = st.lists(TEXTS, max_size=3)
DIMENSION = st.one_of(TEXTS, st.fixed_dictionaries({}, optional={"allow": st.one_of(TEXTS, ENTRIES), "deny": TEXTS}))
ACCESS = st.one_of(TEXTS, st.fixed_dictionaries({}, optional={"providers": DIMENSION, "models": DIMENSION, "x": TEXTS}))

IDS = st.sampled_from(["aigpk_01h455vb4pex5vsknk084sn02q", "aigpk_81h455vb4pex5vsknk084sn02q", "aigk_x", "", 7, None])
VALUES = st.sampled_from(["abcdefgh", " abcdefgh\n", "a b", "", "é", 7, None])
KEY = st.one_of(
    TEXTS, st.fixed_dictionaries({}, optional={"id": IDS, "name": TEXTS, "value": VALUES, "keyRedacted": TEXTS})
)
STEP = st.one_of(
    TEXTS,
    st.fixed_dictionaries(
        {"type": st.sampled_from(["ngrok", "user", "user", "other", None])},
        optional={
            "keys": st.one_of(TEXTS, st.lists(KEY, max_size=2)),
            "keySelectionStrategy": st.sampled_from(["ordered", "random", None]),
        },
    ),
)
RULE = st.one_of(
    TEXTS,
    st.fixed_dictionaries(
        {"steps": st.one_of(TEXTS, st.lists(STEP, max_size=2))},
        optional={"provider": TEXTS, "model": TEXTS, "x": TEXTS},
    ),
)
ROUTER = st.one_of(TEXTS, st.fixed_dictionaries({}, optional={"rules": st.one_of(TEXTS, st.lists(RULE, max_size=3))}))


def faults_of(half, value):
    faults = Faults()
    if half == "access":
        scopes.check(value, providers=KnownProviders(), faults=faults)
    else:
        routers.check(value, providers=KnownProviders(), provider_keys={}, faults=faults)
    return faults.by_path


def is_valid(written, value):
    return jsonschema_rs.Draft202012Validator(written).is_valid(value)


@given(ACCESS)
def test_an_access_has_a_fault_of_form_exactly_where_its_schema_refuses_it(access):
    of_form = {path for path, text in faults_of("access", access).items() if not BEYOND_SCHEMAS.search(text)}
    is_repeated = any(
        isinstance(part, dict) and isinstance(part.get("allow"), list) and not _is_unique(part["allow"])
        for part in (access.values() if isinstance(access, dict) else ())
    )

    assert is_valid(schema.ACCESS, access) == (not of_form and not is_repeated)


@given(ROUTER)
def test_a_router_has_a_fault_of_form_exactly_where_its_schema_refuses_it(router):
    of_form = {path for path, text in faults_of("router", router).items() if not BEYOND_SCHEMAS.search(text)}

    assert is_valid(schema.ROUTER_FORM, router) == (not of_form)


@pytest.mark.parametrize("half", [schema.ACCESS, schema.ROUTER_FORM, schema.ROUTER])
def test_each_schema_is_one_and_takes_its_own_example(half):
    jsonschema_rs.meta.validate(half)
    assert is_valid(half, half["example"])


def test_the_examples_hold_nothing_like_a_secret():
    assert schema.ROUTER_FORM["example"]["rules"][0]["steps"][0]["keys"] == [{"id": "aigpk_01h455vb4pex5vsknk084sn02q"}]
    assert schema.ROUTER["example"]["rules"][0]["steps"][0]["keys"][0]["keyRedacted"] == "***"


def test_managed_inference_is_openai_s_and_anthropic_s():
    assert [provider for provider in BUILT_IN if routers.is_managed(provider)] == ["openai", "anthropic"]


def _is_unique(entries):
    return len(entries) == len({repr(entry) for entry in entries})
