"""Holds: gateway_core.dialects

The facts of each dialect, and which provider speaks which.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.catalog import BUILT_IN, Surface
from gateway_core.dialects import DIALECTS, dialect_of
from gateway_core.dialects.error_texts import error_text, is_error
from gateway_core.dialects.facts import Dialect
from gateway_core.dialects.openai import MEANINGS


def test_anthropic_gets_its_key_as_each_surface_wants_it():
    for name in ("anthropic", ""):
        assert dialect_of(name, Surface.MESSAGES).key_header(Surface.MESSAGES).name == "x-api-key"
    shown = dialect_of("anthropic", Surface.CHAT_COMPLETIONS).key_header(Surface.CHAT_COMPLETIONS)
    assert (shown.name, shown.prefix) == ("authorization", "Bearer ")


@pytest.mark.parametrize("surface", Surface)
def test_a_provider_without_a_dialect_of_its_own_speaks_that_of_the_surface(surface: Surface):
    wanted = "anthropic" if surface is Surface.MESSAGES else "openai"

    assert dialect_of("inference-net", surface) is DIALECTS[wanted]


def test_every_dialect_is_a_providers_or_a_formats():
    assert set(DIALECTS) <= set(BUILT_IN)


def shown_key(dialect: Dialect, surface: Surface) -> str:
    header = dialect.key_header(surface)
    return f"`{header.name}: {header.prefix}…`"


def shown_meanings(provider: str, dialect: Dialect) -> str:
    own = [one for one in dialect.meanings if provider == "openai" or one not in MEANINGS]
    return "; ".join(f"{one.means}: `{one.code or one.message.replace('|', '¦')}`" for one in own) or "–"


def rows() -> list[str]:
    """The table of docs/providers.md, as the code has it."""
    found = []
    for provider in BUILT_IN.values():
        dialect = dialect_of(provider.id, provider.surfaces[0])
        keys = " or ".join(dict.fromkeys(shown_key(dialect, surface) for surface in provider.surfaces))
        spoken = [dialect_of(provider.id, surface) for surface in provider.surfaces if surface is Surface.MESSAGES]
        counts = "yes" if any(one.counts_tokens for one in spoken) else "–"
        names = ", ".join(f"`{name}`" for name in dialect.request_ids)
        meanings = shown_meanings(provider.id, dialect)
        beside = ", ".join(provider.beside) or "–"
        found.append(f"| `{provider.id}` | `{dialect.id}` | {keys} | {meanings} | {names} | {counts} | {beside} |")
    return found


def rows_of_parameters() -> list[str]:
    """The second table of docs/providers.md, as the code has it."""
    found = []
    for dialect in DIALECTS.values():
        for rule in dialect.not_taken:
            surfaces = ", ".join(f"`{surface}`" for surface in rule.surfaces) or "every"
            when = f"beside `{rule.beside}`" if rule.beside else "if it reasons" if rule.if_reasoning else "always"
            what = [*(f"`{name}`" for name in rule.removed), *(f"`{old}` as `{new}`" for old, new in rule.renamed)]
            models = rule.models.replace("|", "¦")
            found.append(f"| `{dialect.id}` | `{models}` | {surfaces} | {', '.join(what)} | {when} |")
    return found


def test_the_document_shows_what_no_model_takes():
    text = (Path(__file__).resolve().parents[2] / "docs/providers.md").read_text()

    assert "\n".join(rows_of_parameters()) in text


def test_nothing_that_decides_is_left_out():
    kept = {"model", "models", "messages", "input", "prompt", "stream", "stream_options", "n", "tools", "service_tier"}

    for dialect in DIALECTS.values():
        for rule in dialect.not_taken:
            assert not kept & {*rule.removed, *(name for name, _ in rule.renamed)}


def test_the_document_shows_the_facts_of_every_provider():
    text = (Path(__file__).resolve().parents[2] / "docs/providers.md").read_text()

    assert "\n".join(rows()) in text


# As the upstreams were seen to answer: status, body, and what it means for the key.
ERRORS = [
    (
        "anthropic",
        {
            "error": {
                "type": "invalid_request_error",
                "message": "Your credit balance is too low to access the Anthropic API.",
            }
        },
        402,
    ),
    ("anthropic", {"error": {"type": "invalid_request_error", "message": "This organization has been disabled."}}, 403),
    (
        "anthropic",
        {
            "error": {
                "type": "invalid_request_error",
                "message": "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
            }
        },
        402,
    ),
    (
        "anthropic",
        {"error": {"type": "invalid_request_error", "message": "messages: at least one message is required"}},
        0,
    ),
    (
        "google",
        {
            "error": {
                "code": 400,
                "message": "API key not valid.",
                "status": "INVALID_ARGUMENT",
                "details": [{"reason": "API_KEY_INVALID"}],
            }
        },
        401,
    ),
    (
        "google",
        [{"error": {"code": 400, "message": "Please pass a valid API key.", "status": "INVALID_ARGUMENT"}}],
        401,
    ),
    (
        "google",
        {
            "error": {
                "message": '{"error": {"code": 400, "message": "No.", "details": [{"reason": "API_KEY_INVALID"}]}}',
                "code": 400,
            }
        },
        401,
    ),
    ("google", {"error": {"code": 400, "message": "Invalid value at 'contents'", "status": "INVALID_ARGUMENT"}}, 0),
    ("xai", {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***1a."}, 401),
    (
        "xai",
        {
            "code": "The caller does not have permission",
            "error": "Your newly created team doesn't have any credits yet.",
        },
        402,
    ),
    ("groq", {"error": {"message": "Organization has been restricted.", "code": "organization_restricted"}}, 403),
    ("groq", {"error": {"message": "The model does not exist", "code": "model_not_found"}}, 0),
    (
        "fireworks",
        {
            "error": {
                "message": "Account acme is suspended, possibly due to reaching the limit",
                "code": "PRECONDITION_FAILED",
            }
        },
        402,
    ),
    ("moonshot", {"error": {"message": "Your account is suspended", "type": "exceeded_current_quota_error"}}, 402),
    ("moonshot", {"error": {"message": "Too many", "type": "rate_limit_reached_error"}}, 0),
    ("openrouter", {"error": {"code": 404, "message": "No endpoints found matching your data policy."}}, 403),
    (
        "openai",
        {"error": {"message": "You exceeded…", "type": "insufficient_quota", "code": "insufficient_quota"}},
        402,
    ),
    ("mine", {"error": {"code": "Arrearage", "message": "Access denied.", "type": "Arrearage"}}, 402),
    ("mine", {"object": "error", "message": "Insufficient balance", "code": 1008}, 402),
    ("mine", {"detail": "Invalid API key"}, 401),
    # A caller's words in a refusal of the request.
    ("anthropic", {"error": {"message": "messages.0: 'Your credit balance is too low' is not a role"}}, 0),
    ("google", {"error": {"message": "bad value 'API_KEY_INVALID'", "status": "INVALID_ARGUMENT"}}, 0),
]


@pytest.mark.parametrize(("provider", "payload", "meant"), ERRORS)
def test_an_error_means_the_key_by_its_own_members_alone(provider: str, payload: object, meant: int):
    assert dialect_of(provider, Surface.CHAT_COMPLETIONS).meaning(error_text(payload)) == meant


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "code", "message", "type", "details", "response", "metadata", "raw"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_an_upstream_writes_is_read_without_a_fault(payload: object):
    found = error_text(payload)

    assert len(found.codes) <= 20
    assert found.status == 0 or 400 <= found.status < 600
    assert is_error(payload) in {True, False}
