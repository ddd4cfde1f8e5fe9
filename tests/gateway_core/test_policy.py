"""Holds: gateway_core.policy, gateway_core.plans

The policy, as tables: what a request may do under which configuration.
"""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core import ids
from gateway_core.account_snapshot import snapshot_of
from gateway_core.catalog import Catalog, Model, ModelsDocument, Surface
from gateway_core.plans import DecidedBy, Denial, DenialCode, KeySource, Plan
from gateway_core.policy import SnapshotIncomplete, judge, reachable_models, resolve
from gateway_core.snapshot import (
    ConfigurationDocument,
    ProviderDocument,
    ProviderKeyDocument,
    Rule,
    Scope,
    SettingsDocument,
    Step,
    SurfaceSupport,
    configuration_document,
    provider_document,
    provider_key_document,
)

MODELS = ModelsDocument(
    providers={
        "openai": (Model("gpt-4o", input_price="2.5", output_price="10"), Model("gpt-4o-mini"), Model("o3")),
        "anthropic": (Model("claude-haiku-4-5", input_price="1", output_price="5"),),
        "groq": (Model("openai/gpt-oss-120b"), Model("llama-3.3-70b-versatile")),
        "openrouter": (
            Model("openai/gpt-4o"),
            Model("openai/gpt-oss-120b"),
            Model("meta-llama/llama-3.3-70b-instruct"),
            Model("openrouter/auto"),
        ),
        "together": (Model("meta-llama/Llama-3.3-70B-Instruct"),),
    }
)
CATALOG = Catalog(MODELS)
MANAGED = Catalog(MODELS, managed=["openai", "anthropic"])
ACCOUNT = ids.to_text(ids.Prefix.ACCOUNT, ids.new_id())
CONFIGURATION = ids.to_text(ids.Prefix.CONFIGURATION, ids.new_id())
OLD_KEY, KEY, NEW_KEY = (ids.to_text(ids.Prefix.PROVIDER_KEY, ids.new_id()) for _ in range(3))
GROQ_KEY, ROUTER_KEY, TOGETHER_KEY = (ids.to_text(ids.Prefix.PROVIDER_KEY, ids.new_id()) for _ in range(3))
OLLAMA_ID = ids.to_text(ids.Prefix.PROVIDER, ids.new_id())
CHAT = Surface.CHAT_COMPLETIONS

OLLAMA = ProviderDocument(
    id=OLLAMA_ID,
    name="My Ollama",
    base_url="http://127.0.0.1:11434/v1",
    surfaces=(SurfaceSupport(Surface.CHAT_COMPLETIONS),),
    models=("llama3.2", "meta-llama/llama-3.3-70b-instruct"),
)


def account(configuration=None, *, keys=(), providers=None, has_credits=False):
    documents: list[tuple[str, msgspec.Struct]] = [("settings", SettingsDocument(has_credits=has_credits))]
    documents += [
        (provider_key_document(key), ProviderKeyDocument(provider=provider, mask="***", sealed=b"x"))
        for key, provider in keys
    ]
    documents += [(provider_document(slug), document) for slug, document in (providers or {}).items()]
    if configuration is not None:
        documents.append((configuration_document(CONFIGURATION), configuration))
    return snapshot_of(ACCOUNT, 1, documents)


EVERY_KEY = [
    (KEY, "openai"),
    (GROQ_KEY, "groq"),
    (ROUTER_KEY, "openrouter"),
    (TOGETHER_KEY, "together"),
]


def ask(snapshot, *requested, configuration=None, catalog=CATALOG, surface=CHAT):
    return resolve(snapshot, catalog, configuration=configuration, requested=requested, surface=surface)


def scoped(providers=None, models=None):
    """A configuration with this scope and every stored key routed, so that only the scope decides."""
    rules = tuple(Rule(provider=provider, steps=(Step("user", (key,)),)) for key, provider in EVERY_KEY)
    return account(ConfigurationDocument(scope=Scope(providers=providers, models=models), rules=rules), keys=EVERY_KEY)


def pairs(answer):
    assert isinstance(answer, Plan), answer
    return [(attempt.provider, attempt.model) for attempt in answer.attempts]


def code(answer):
    assert isinstance(answer, Denial), answer
    return answer.code


# ── what a requested name means ──


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ("gpt-4o", [("openai", "gpt-4o")]),
        ("GPT-4o", [("openai", "gpt-4o")]),
        ("openai:gpt-4o", [("openai", "gpt-4o")]),
        ("openai:openai/gpt-4o", [("openai", "gpt-4o")]),
        ("openai/gpt-4o", [("openai", "gpt-4o")]),
        ("openrouter:openai/gpt-4o", [("openrouter", "openai/gpt-4o")]),
        ("groq:openai/gpt-oss-120b", [("groq", "openai/gpt-oss-120b")]),
        ("openai/gpt-oss-120b", [("groq", "openai/gpt-oss-120b"), ("openrouter", "openai/gpt-oss-120b")]),
        (
            "meta-llama/llama-3.3-70b-instruct",
            [
                ("openrouter", "meta-llama/llama-3.3-70b-instruct"),
                ("together", "meta-llama/Llama-3.3-70B-Instruct"),
            ],
        ),
        ("openai:never-heard-of", [("openai", "never-heard-of")]),
        ("openai/never-heard-of", [("openai", "never-heard-of")]),
        ("openai:ft:gpt-4o:acme::id", [("openai", "ft:gpt-4o:acme::id")]),
        ("gpt-4o-2024-11-20", [("openai", "gpt-4o-2024-11-20")]),
        ("openrouter/auto", [("openrouter", "openrouter/auto")]),
        ("openrouter:auto", [("openrouter", "openrouter/auto")]),
    ],
)
def test_a_requested_name_means_these_models(requested, expected):
    assert pairs(ask(account(keys=EVERY_KEY), requested)) == expected


@pytest.mark.parametrize("requested", ["openai:gpt-4o", "openai/gpt-4o", "gpt-4o", "openai:llama3.2"])
@pytest.mark.parametrize("is_ruled", [False, True])
def test_an_own_provider_with_the_name_of_a_built_in_one_never_gets_the_operators_key(requested, is_ruled):
    rules = ConfigurationDocument(rules=(Rule(provider="openai", steps=(Step("ngrok", ()),)),)) if is_ruled else None
    held = account(rules, providers={"openai": OLLAMA}, has_credits=True)

    answer = ask(held, requested, catalog=MANAGED, configuration=CONFIGURATION if is_ruled else None)

    attempts = answer.attempts if isinstance(answer, Plan) else ()
    assert all(attempt.source is not KeySource.MANAGED for attempt in attempts if attempt.provider == "openai")


@pytest.mark.parametrize("requested", ["my-ollama:llama3.2", "llama3.2", "my-ollama/LLAMA3.2", f"{OLLAMA_ID}:llama3.2"])
def test_a_custom_provider_is_asked_by_its_slug_its_id_or_its_models_name(requested):
    answer = ask(account(providers={"my-ollama": OLLAMA}), requested)

    assert pairs(answer) == [("my-ollama", "llama3.2")]
    assert answer.attempts[0].source is KeySource.NONE


@pytest.mark.parametrize("order", [("elder", "younger"), ("younger", "elder")])
def test_custom_providers_that_serve_a_name_come_by_age_and_not_as_their_documents_came(order):
    elder = msgspec.structs.replace(OLLAMA, id="aigp_00000000000000000000000000")
    younger = msgspec.structs.replace(OLLAMA, id="aigp_7zzzzzzzzzzzzzzzzzzzzzzzzz")
    providers = {"elder": elder, "younger": younger}
    snapshot = account(providers={slug: providers[slug] for slug in order})

    assert pairs(ask(snapshot, "llama3.2")) == [("elder", "llama3.2"), ("younger", "llama3.2")]


def test_an_open_id_reaches_custom_providers_too():
    snapshot = account(keys=EVERY_KEY, providers={"my-ollama": OLLAMA})

    assert pairs(ask(snapshot, "meta-llama/llama-3.3-70b-instruct"))[-1] == (
        "my-ollama",
        "meta-llama/llama-3.3-70b-instruct",
    )


@pytest.mark.parametrize(
    ("requested", "expected", "hint"),
    [
        ("gpt4o", DenialCode.MODEL_UNKNOWN, "openai:gpt-4o"),
        ("opnai:gpt-4o", DenialCode.PROVIDER_UNKNOWN, "openai"),
        ("OpenAI:gpt-4o", DenialCode.PROVIDER_UNKNOWN, "openai"),
        ("nobody/has-this", DenialCode.MODEL_UNKNOWN, "not known"),
        ("openai:", DenialCode.MODEL_UNKNOWN, "not known"),
        ("", DenialCode.MODEL_UNKNOWN, "not known"),
        ("x" * 100_000, DenialCode.MODEL_UNKNOWN, "…"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known(requested, expected, hint):
    answer = ask(account(keys=EVERY_KEY), requested)

    assert code(answer) is expected
    assert hint in answer.message
    assert len(answer.message) < 500


# ── scope ──


@pytest.mark.parametrize(
    ("providers", "models", "requested", "expected"),
    [
        (None, None, "openai:gpt-4o", None),
        (("openai",), None, "openai:anything", None),
        (("groq",), None, "openai:gpt-4o", DenialCode.PROVIDER_NOT_ALLOWED),
        ((), None, "openai:gpt-4o", DenialCode.PROVIDER_NOT_ALLOWED),
        (None, (), "openai:gpt-4o", DenialCode.MODEL_NOT_ALLOWED),
        ((), (), "openai:gpt-4o", DenialCode.PROVIDER_NOT_ALLOWED),
        (None, (("openai", "gpt-4o"),), "openai:gpt-4o", None),
        (None, (("openai", "GPT-4O"),), "openai:gpt-4o", None),
        (None, (("openai", "openai/gpt-4o"),), "gpt-4o", None),
        (None, (("openai", "gpt-4o"),), "openai/gpt-4o", None),
        (None, (("openai", "gpt-4o"),), "openai:gpt-4o-mini", DenialCode.MODEL_NOT_ALLOWED),
        (None, (("openai", "gpt-4o"),), "gpt-4o-2024-11-20", DenialCode.MODEL_NOT_ALLOWED),
        (None, (("openai", "gpt-4o"),), "openrouter:openai/gpt-4o", DenialCode.MODEL_NOT_ALLOWED),
        (None, (("", "openai/gpt-4o"),), "openai:gpt-4o", None),
        (None, (("", "OpenAI/gpt-4o"),), "gpt-4o", None),
        (None, (("", "openai/gpt-4o"),), "openrouter:openai/gpt-4o", DenialCode.MODEL_NOT_ALLOWED),
        (None, (("", "meta-llama/llama-3.3-70b-instruct"),), "together:meta-llama/Llama-3.3-70B-Instruct", None),
        (None, (("", "meta-llama/llama-3.3-70b-instruct"),), "openrouter:meta-llama/llama-3.3-70b-instruct", None),
        (None, (("groq", "openai/gpt-oss-120b"),), "groq:openai/gpt-oss-120b", None),
        (None, (("groq", "openai/gpt-oss-120b"),), "openrouter:openai/gpt-oss-120b", DenialCode.MODEL_NOT_ALLOWED),
        (None, (("", "openai/gpt-oss-120b"),), "groq:openai/gpt-oss-120b", None),
        (None, (("openai", "brand-new"),), "openai:brand-new", None),
        (("groq",), (("openai", "gpt-4o"),), "openai:gpt-4o", DenialCode.PROVIDER_NOT_ALLOWED),
    ],
)
def test_the_scope_decides_exactly(providers, models, requested, expected):
    answer = ask(scoped(providers, models), requested, configuration=CONFIGURATION)

    if expected is None:
        assert isinstance(answer, Plan), answer
    else:
        assert code(answer) is expected


def test_a_candidate_out_of_scope_is_skipped_and_told():
    answer = ask(scoped(providers=("groq",)), "openai:gpt-4o", "groq:openai/gpt-oss-120b", configuration=CONFIGURATION)

    assert pairs(answer) == [("groq", "openai/gpt-oss-120b")]
    assert [(one.requested, one.code) for one in answer.skipped] == [("openai:gpt-4o", DenialCode.PROVIDER_NOT_ALLOWED)]


def test_a_refusal_names_the_candidate_that_came_nearest():
    snapshot = scoped(providers=("openai",), models=(("openai", "o3"),))

    answer = ask(snapshot, "nonsense", "groq:x", "openai:gpt-4o", configuration=CONFIGURATION)

    assert code(answer) is DenialCode.MODEL_NOT_ALLOWED
    assert [one.code for one in answer.skipped] == [
        DenialCode.MODEL_UNKNOWN,
        DenialCode.PROVIDER_NOT_ALLOWED,
        DenialCode.MODEL_NOT_ALLOWED,
    ]


def test_a_surface_that_the_provider_lacks_is_refused():
    assert code(ask(account(keys=EVERY_KEY), "gpt-4o", surface=Surface.MESSAGES)) is DenialCode.SURFACE_NOT_SERVED
    assert (
        code(ask(account(providers={"my-ollama": OLLAMA}), "my-ollama:llama3.2", surface=Surface.EMBEDDINGS))
        is DenialCode.SURFACE_NOT_SERVED
    )


# ── credentials ──


def attempts(answer):
    assert isinstance(answer, Plan), answer
    return [(attempt.source, attempt.provider_key, attempt.decided_by, attempt.step) for attempt in answer.attempts]


@pytest.mark.parametrize("catalog", [CATALOG, MANAGED])
def test_a_model_that_a_stored_key_serves_is_not_skipped_for_want_of_managed_inference(catalog):
    answer = ask(account(keys=[(KEY, "openai")]), "gpt-4o", catalog=catalog)

    assert [attempt.provider_key for attempt in answer.attempts] == [KEY]
    assert answer.skipped == ()


def test_without_a_configuration_the_newest_stored_key_comes_first_and_managed_inference_last():
    snapshot = account(keys=[(KEY, "openai"), (NEW_KEY, "openai"), (OLD_KEY, "openai")], has_credits=True)

    assert attempts(ask(snapshot, "gpt-4o", catalog=MANAGED)) == [
        (KeySource.USER, NEW_KEY, DecidedBy.DEFAULT, None),
        (KeySource.USER, KEY, DecidedBy.DEFAULT, None),
        (KeySource.USER, OLD_KEY, DecidedBy.DEFAULT, None),
        (KeySource.MANAGED, None, DecidedBy.DEFAULT, None),
    ]


def test_with_a_configuration_stored_keys_count_only_where_a_rule_names_them():
    snapshot = account(ConfigurationDocument(), keys=[(KEY, "openai")])

    assert code(ask(snapshot, "gpt-4o", configuration=CONFIGURATION)) is DenialCode.NO_CREDENTIALS


def test_with_a_configuration_a_custom_provider_is_called_without_credentials():
    snapshot = account(ConfigurationDocument(), keys=[(KEY, "my-ollama")], providers={"my-ollama": OLLAMA})

    assert attempts(ask(snapshot, "my-ollama:llama3.2", configuration=CONFIGURATION)) == [
        (KeySource.NONE, None, DecidedBy.DEFAULT, None)
    ]


def test_without_a_configuration_a_custom_providers_stored_key_is_used_and_never_passed_over():
    snapshot = account(keys=[(KEY, "my-ollama")], providers={"my-ollama": OLLAMA})

    assert attempts(ask(snapshot, "my-ollama:llama3.2")) == [(KeySource.USER, KEY, DecidedBy.DEFAULT, None)]


@pytest.mark.parametrize(
    ("catalog", "has_credits", "requested", "expected"),
    [
        (CATALOG, True, "gpt-4o", DenialCode.NO_CREDENTIALS),
        (MANAGED, False, "gpt-4o", DenialCode.NO_CREDITS),
        (MANAGED, True, "openai:uncatalogued", DenialCode.NO_CREDENTIALS),
        (MANAGED, True, "gpt-4o-mini", DenialCode.NO_CREDENTIALS),  # catalogued, without a price
        (MANAGED, True, "groq:llama-3.3-70b-versatile", DenialCode.NO_CREDENTIALS),
        (MANAGED, True, "gpt-4o", None),
        (MANAGED, True, "claude-haiku-4-5-20251001", None),
    ],
)
@pytest.mark.parametrize("configuration", [None, CONFIGURATION])
def test_managed_inference_needs_the_operators_key_credits_and_a_priced_model(
    catalog, has_credits, requested, expected, configuration
):
    snapshot = account(ConfigurationDocument(), has_credits=has_credits)

    answer = ask(snapshot, requested, catalog=catalog, configuration=configuration)

    if expected is None:
        assert attempts(answer) == [(KeySource.MANAGED, None, DecidedBy.DEFAULT, None)]
    else:
        assert code(answer) is expected


def test_a_models_rule_wins_over_its_providers_rule():
    configuration = ConfigurationDocument(
        rules=(
            Rule(provider="openai", steps=(Step("user", (OLD_KEY,)),)),
            Rule(provider="openai", model="openai/GPT-4o", steps=(Step("user", (NEW_KEY,)),)),
        )
    )
    snapshot = account(configuration, keys=[(OLD_KEY, "openai"), (NEW_KEY, "openai")])

    assert attempts(ask(snapshot, "gpt-4o", configuration=CONFIGURATION)) == [
        (KeySource.USER, NEW_KEY, DecidedBy.MODEL_RULE, 0)
    ]
    assert attempts(ask(snapshot, "o3", configuration=CONFIGURATION)) == [
        (KeySource.USER, OLD_KEY, DecidedBy.PROVIDER_RULE, 0)
    ]


def test_steps_and_their_keys_are_tried_in_order_and_no_pair_twice():
    configuration = ConfigurationDocument(
        rules=(
            Rule(
                provider="openai",
                steps=(Step("user", (KEY, OLD_KEY)), Step("ngrok"), Step("user", (OLD_KEY, NEW_KEY))),
            ),
        )
    )
    keys = [(OLD_KEY, "openai"), (KEY, "openai"), (NEW_KEY, "openai")]

    funded = ask(
        account(configuration, keys=keys, has_credits=True), "gpt-4o", configuration=CONFIGURATION, catalog=MANAGED
    )
    broke = ask(account(configuration, keys=keys), "gpt-4o", configuration=CONFIGURATION, catalog=MANAGED)

    assert [key for _, key, _, _ in attempts(funded)] == [KEY, OLD_KEY, None, NEW_KEY]
    assert [key for _, key, _, _ in attempts(broke)] == [KEY, OLD_KEY, NEW_KEY]
    assert [(one.code, one.step) for one in broke.skipped] == [(DenialCode.NO_CREDITS, 1)]


def test_a_model_named_twice_is_tried_once():
    answer = ask(account(keys=EVERY_KEY), "gpt-4o", "openai:gpt-4o", "openai/gpt-4o")

    assert pairs(answer) == [("openai", "gpt-4o")]


def test_candidates_are_numbered_so_that_a_refusal_can_move_to_the_next():
    answer = ask(account(keys=[*EVERY_KEY, (OLD_KEY, "openai")]), "gpt-4o", "groq:x")

    assert [(attempt.provider, attempt.candidate) for attempt in answer.attempts] == [
        ("openai", 0),
        ("openai", 0),
        ("groq", 1),
    ]


# ── what decided it ──


def test_a_verdict_names_the_entries_and_the_rule_that_decided():
    configuration = ConfigurationDocument(
        scope=Scope(providers=("groq", "openai"), models=(("", "x/y"), ("openai", "gpt-4o"))),
        rules=(
            Rule(provider="openai", steps=(Step("user", (KEY,)),)),
            Rule(provider="openai", model="gpt-4o", steps=(Step("user", (KEY,)),)),
        ),
    )
    snapshot = account(configuration, keys=[(KEY, "openai")])

    allowed, other, unknown = judge(
        snapshot,
        CATALOG,
        configuration=CONFIGURATION,
        requested=["gpt-4o", "openai:o3", "nonsense"],
        surface=CHAT,
    )

    assert (allowed.refusal, allowed.provider_entry, allowed.model_entry) == (None, 1, 1)
    assert (allowed.decided_by, allowed.rule) == (DecidedBy.MODEL_RULE, 1)
    assert (other.refusal.code, other.provider_entry, other.model_entry) == (DenialCode.MODEL_NOT_ALLOWED, 1, None)
    assert (other.decided_by, other.rule) == (DecidedBy.PROVIDER_RULE, 0)
    assert unknown.code is DenialCode.MODEL_UNKNOWN


# ── a snapshot that is not whole ──


def test_a_configuration_that_is_not_there_is_never_taken_for_none():
    with pytest.raises(SnapshotIncomplete):
        ask(account(keys=EVERY_KEY), "gpt-4o", configuration=CONFIGURATION)


@pytest.mark.parametrize("held", [[], [(KEY, "groq")]])
def test_a_rules_key_that_is_not_there_or_not_the_providers_stops_the_decision(held):
    configuration = ConfigurationDocument(rules=(Rule(provider="openai", steps=(Step("user", (KEY,)),)),))

    with pytest.raises(SnapshotIncomplete):
        ask(account(configuration, keys=held), "gpt-4o", configuration=CONFIGURATION)


# ── what a key may reach ──


def test_the_reachable_models_are_those_that_a_request_would_get():
    snapshot = scoped(models=(("openai", "gpt-4o"), ("", "openai/gpt-oss-120b")))

    reachable = [model for part in reachable_models(snapshot, CATALOG, configuration=CONFIGURATION) for model in part]

    assert reachable == [("openai", "gpt-4o"), ("groq", "openai/gpt-oss-120b"), ("openrouter", "openai/gpt-oss-120b")]


NAMES = st.sampled_from(
    [
        "gpt-4o",
        "openai:o3",
        "groq:openai/gpt-oss-120b",
        "openai/gpt-oss-120b",
        "claude-haiku-4-5",
        "nonsense",
        "my-ollama:z",
    ]
)
ENTRIES = st.sampled_from([("openai", "gpt-4o"), ("openai", "o3"), ("", "openai/gpt-oss-120b"), ("groq", "x")])


@given(
    requested=st.lists(NAMES, min_size=1, max_size=4),
    providers=st.none() | st.lists(st.sampled_from(["openai", "groq", "my-ollama"]), max_size=3),
    models=st.none() | st.lists(ENTRIES, max_size=3),
)
def test_whatever_is_planned_is_in_scope_has_credentials_and_stands_once(requested, providers, models):
    document = ConfigurationDocument(
        scope=Scope(
            providers=None if providers is None else tuple(providers), models=None if models is None else tuple(models)
        ),
        rules=(Rule(provider="openai", steps=(Step("user", (KEY, OLD_KEY)),)),),
    )
    snapshot = account(
        document, keys=[(KEY, "openai"), (OLD_KEY, "openai"), (GROQ_KEY, "groq")], providers={"my-ollama": OLLAMA}
    )

    answer = ask(snapshot, *requested, configuration=CONFIGURATION)

    if isinstance(answer, Denial):
        assert answer.skipped
        return
    seen = [(attempt.provider, attempt.model, attempt.provider_key) for attempt in answer.attempts]
    assert len(seen) == len(set(seen)) > 0
    assert providers is None or {attempt.provider for attempt in answer.attempts} <= set(providers)
    for attempt in answer.attempts:
        assert attempt.provider != "groq"  # no rule names its key
        assert (attempt.source is KeySource.USER) == (attempt.provider_key is not None)
        if models is not None and attempt.provider == "openai":
            assert ("openai", attempt.model) in models


def test_a_plan_ends_at_the_bound_and_nothing_behind_it_is_looked_at():
    key = ProviderKeyDocument(provider="openai", mask="m", sealed=b"")
    account = snapshot_of("ac_x", 1, [(f"providerKey:{number:05}", key) for number in range(5_000)])

    plan = resolve(account, CATALOG, configuration=None, requested=["openai:gpt-4o", "openai:x"], surface=CHAT)

    assert isinstance(plan, Plan)
    assert [attempt.provider_key for attempt in plan.attempts] == [f"{4_999 - place:05}" for place in range(16)]
    assert plan.is_cut


def test_a_plan_of_exactly_the_bound_is_not_cut():
    account = snapshot_of("ac_x", 1, [("providerKey:1", ProviderKeyDocument(provider="openai", mask="m", sealed=b""))])

    plan = resolve(account, CATALOG, configuration=None, requested=["openai:x"] * 2, surface=CHAT, most_attempts=1)

    assert isinstance(plan, Plan)
    assert len(plan.attempts) == 1
    assert not plan.is_cut


@pytest.mark.parametrize("most", [1, 2, 3, 16])
def test_a_step_with_a_strategy_of_its_own_is_in_the_plan_whole_and_said_where(most):
    mine = (OLD_KEY, KEY, NEW_KEY)
    first = Step("user", (OLD_KEY,))
    spread = Step("user", mine, strategy="weighted", weights=(2, 5))
    unknown = Step("user", (KEY, NEW_KEY), strategy="of-tomorrow")
    rules = (Rule("openai", (first, spread, unknown, Step("user", mine, strategy="sticky"))),)
    snapshot = account(ConfigurationDocument(rules=rules), keys=[(key, "openai") for key in mine])

    plan = resolve(
        snapshot, CATALOG, configuration=CONFIGURATION, requested=["openai:gpt-4o"], surface=CHAT, most_attempts=most
    )

    if most == 1:
        assert [attempt.provider_key for attempt in plan.attempts] == [OLD_KEY]
        assert (plan.groups, plan.is_cut) == ((), True)
        return
    # The first of the step is in the plan already.
    assert [(attempt.provider_key, attempt.weight) for attempt in plan.attempts] == [
        (OLD_KEY, 1),
        (KEY, 5),
        (NEW_KEY, 1),
    ]
    assert plan.groups == ((1, 3, "weighted"),)
    assert plan.is_cut == (most == 2)
    # Whoever leaves attempts out of a plan leaves its groups true.
    assert plan.of(plan.attempts[1:]).groups == ((0, 2, "weighted"),)
    assert plan.of(plan.attempts[:2]).groups == ()


def test_only_the_refusal_that_is_told_gets_suggestions():
    denial = resolve(
        snapshot_of("ac_x", 1, []), CATALOG, configuration=None, requested=["gpt-4oo", "gpt-4ooo"], surface=CHAT
    )

    assert isinstance(denial, Denial)
    assert "Did you mean" in denial.message
    assert not any("Did you mean" in skipped.message for skipped in denial.skipped)
