"""Holds: configurations.router

The rules of `router` (contract, section 3), each on the wire.
"""

import pytest

from configurations.snapshot_documents import build
from gateway_core import ids
from gateway_core.snapshot import Rule, Step
from provider_keys.models import ProviderKey
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue

URL = "/access-key-configurations"
MANAGED = {"type": "ngrok"}
NOBODY_S_KEY = "aigpk_01h455vb4pex5vsknk084sn02q"
NOBODY_S_PROVIDER = "aigp_01h455vb4pex5vsknk084sn02q"


def user(*keys, **more):
    return {"type": "user", "keys": list(keys), **more}


def inline(value="sk-0123456789", name="inline"):
    return {"name": name, "value": value}


def rule(provider="openai", *steps, **more):
    return {"provider": provider, "steps": list(steps or [MANAGED]), **more}


def refused(api, assert_refused, router):
    return assert_refused(api.post(URL, {"name": "n", "router": router}), 422, "configuration_invalid")


# ── what is taken ──


def test_rules_are_published_with_their_keys_in_order(api, account, known):
    rules = [
        rule("openai", user({"id": known.openai}, inline(), {"id": known.other_openai}), MANAGED),
        {"model": "groq:openai/gpt-oss-120b", "steps": [user({"id": known.groq})]},
        {"provider": known.custom, "model": "my-ollama:llama3.2", "steps": [user({"id": known.custom_key})]},
        {"provider": "my-ollama", "steps": [user({"id": known.custom_key}), user({"id": known.custom_key})]},
    ]

    answer = api.post(URL, {"name": "n", "router": {"rules": rules}})

    assert answer.status_code == 201, answer.json()
    configuration = account.configuration_set.with_named().get()
    made = ProviderKey.objects.get(name="inline")
    assert (made.provider, made.provider_as_written) == ("openai", "openai")
    assert build(configuration).rules == (
        Rule("openai", (Step("user", (known.openai, made.text_id, known.other_openai)), Step("ngrok"))),
        Rule("groq", (Step("user", (known.groq,)),), "openai/gpt-oss-120b"),
        Rule("my-ollama", (Step("user", (known.custom_key,)),), "llama3.2"),
        Rule("my-ollama", (Step("user", (known.custom_key,)), Step("user", (known.custom_key,)))),
    )
    assert {row.provider_key.text_id for row in configuration.routed_keys.all()} == {
        known.openai,
        made.text_id,
        known.other_openai,
        known.groq,
        known.custom_key,
    }
    assert [row.provider.text_id for row in configuration.named_providers.all()] == [known.custom]


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param([rule("openai"), rule("anthropic")], id="managed inference of both that have it"),
        pytest.param(
            [{"model": "openai:gpt-4o", "steps": [MANAGED]}, rule("openai")], id="a model's beside its provider's"
        ),
        pytest.param([rule(model="openai:gpt-4o"), rule("openai")], id="a model's with provider beside its provider's"),
        pytest.param([rule(model="openai:gpt-4o"), rule(model="openai:gpt-4o-mini")], id="two models of one provider"),
        pytest.param([rule(model="openai:openai/gpt-4o")], id="the provider's own prefix"),
        pytest.param([rule(model="openai:a-model-of-tomorrow")], id="an uncatalogued model"),
        pytest.param([rule("openai", MANAGED, MANAGED)], id="a step twice"),
        pytest.param([rule("groq", user(inline(), keySelectionStrategy="ordered"))], id="the strategy there is"),
    ],
)
def test_a_router_within_the_rules_is_taken(api, known, rules):
    assert api.post(URL, {"name": "n", "router": {"rules": rules}}).status_code == 201


def test_a_rule_may_be_for_a_provider_outside_access(api, known):
    body = {"name": "n", "access": {"providers": {"allow": ["groq"]}}, "router": {"rules": [rule("openai")]}}

    assert api.post(URL, body).status_code == 201


def test_an_inline_key_becomes_a_provider_key_like_any_other(api, known, account, principal):
    router = {"rules": [rule(known.custom, user(inline(" \tlocal-key-of-mine-0123456789\n", "home")))]}
    created = api.post(URL, {"name": "n", "router": router}).json()

    shown = created["router"]["rules"][0]["steps"][0]["keys"][0]
    key = api.get(f"/provider-keys/{shown['id']}").json()

    assert shown == {"id": key["id"], "name": "home", "keyRedacted": "local-key-***6789"}
    assert (key["keyRedacted"], key["name"], key["createdBy"]["id"]) == ("local-key-***6789", "home", principal.id)
    assert key["providerId"] == "my-ollama"
    row = ProviderKey.objects.get(name="home")
    assert (row.custom_provider.text_id, row.account) == (known.custom, account)
    assert created["router"]["rules"][0]["provider"] == known.custom


# ── the form ──


@pytest.mark.parametrize(
    ("router", "path"),
    [
        pytest.param({}, "router.rules", id="no rules"),
        pytest.param({"rules": None}, "router.rules", id="rules null"),
        pytest.param({"rules": {}}, "router.rules", id="rules an object"),
        pytest.param({"rules": [], "rule": []}, "router.rule", id="an unknown field"),
        pytest.param({"rules": [None]}, "router.rules[0]", id="a rule null"),
        pytest.param({"rules": ["openai"]}, "router.rules[0]", id="a rule that is a string"),
        pytest.param({"rules": [rule()] * 201}, "router.rules", id="too many rules"),
        pytest.param({"rules": [rule(prvider="x")]}, "router.rules[0].prvider", id="an unknown field of a rule"),
        pytest.param({"rules": [{"provider": "openai"}]}, "router.rules[0].steps", id="no steps"),
        pytest.param({"rules": [{"provider": "openai", "steps": None}]}, "router.rules[0].steps", id="steps null"),
        pytest.param({"rules": [{"provider": "openai", "steps": []}]}, "router.rules[0].steps", id="no step"),
        pytest.param({"rules": [{"provider": "openai", "steps": {}}]}, "router.rules[0].steps", id="steps an object"),
        pytest.param({"rules": [rule("openai", *[MANAGED] * 21)]}, "router.rules[0].steps", id="too many steps"),
        pytest.param({"rules": [rule("openai", "ngrok")]}, "router.rules[0].steps[0]", id="a step that is a string"),
        pytest.param({"rules": [rule("openai", {})]}, "router.rules[0].steps[0].type", id="no type"),
        pytest.param({"rules": [rule("openai", {"type": None})]}, "router.rules[0].steps[0].type", id="type null"),
        pytest.param(
            {"rules": [rule("openai", {"type": ["ngrok"]})]}, "router.rules[0].steps[0].type", id="type a list"
        ),
        pytest.param({"rules": [rule("openai", {"type": "User"})]}, "router.rules[0].steps[0].type", id="another type"),
        pytest.param(
            {"rules": [rule("openai", {**MANAGED, "key": 1})]}, "router.rules[0].steps[0].key", id="unknown in a step"
        ),
        pytest.param(
            {"rules": [rule("openai", {**MANAGED, "keys": []})]}, "router.rules[0].steps[0].keys", id="ngrok with keys"
        ),
        pytest.param(
            {"rules": [rule("openai", {**MANAGED, "keys": [{}]})]}, "router.rules[0].steps[0].keys", id="with a bad key"
        ),
        pytest.param({"rules": [rule("openai", {"type": "user"})]}, "router.rules[0].steps[0].keys", id="no keys"),
        pytest.param({"rules": [rule("openai", user())]}, "router.rules[0].steps[0].keys", id="no key"),
        pytest.param(
            {"rules": [rule("openai", {"type": "user", "keys": None})]}, "router.rules[0].steps[0].keys", id="keys null"
        ),
        pytest.param(
            {"rules": [rule("openai", {"type": "user", "keys": "a"})]},
            "router.rules[0].steps[0].keys",
            id="keys a string",
        ),
        pytest.param(
            {"rules": [rule("openai", user(*[{"id": NOBODY_S_KEY}] * 101))]},
            "router.rules[0].steps[0].keys",
            id="too many keys in a step",
        ),
        pytest.param(
            {"rules": [rule("openai", *[user(*[{"id": NOBODY_S_KEY}] * 100)] * 11)]},
            "router.rules",
            id="too many keys in all",
        ),
        pytest.param(
            {"rules": [rule("openai", user(inline(), keySelectionStrategy="random"))]},
            "router.rules[0].steps[0].keySelectionStrategy",
            id="another strategy",
        ),
        pytest.param(
            {"rules": [rule("openai", user(inline(), keySelectionStrategy=None))]},
            "router.rules[0].steps[0].keySelectionStrategy",
            id="strategy null",
        ),
        pytest.param(
            {"rules": [rule("openai", user("a"))]}, "router.rules[0].steps[0].keys[0]", id="a key that is a string"
        ),
        pytest.param({"rules": [rule("openai", user({}))]}, "router.rules[0].steps[0].keys[0]", id="an empty key"),
    ],
)
def test_a_router_of_another_form_is_refused_at_its_path(api, account, assert_refused, router, path):
    assert set(refused(api, assert_refused, router)) == {path}
    assert not account.providerkey_set.exists()


# ── what a rule is for ──


@pytest.mark.parametrize(
    ("subject", "path", "hint"),
    [
        pytest.param({}, "", "a provider, a model, or both", id="neither"),
        pytest.param({"provider": None}, ".provider", "null", id="provider null"),
        pytest.param({"model": None}, ".model", "null", id="model null"),
        pytest.param({"provider": 7}, ".provider", "string", id="provider no string"),
        pytest.param({"model": 7}, ".model", "string", id="model no string"),
        pytest.param({"provider": "opnai"}, ".provider", "openai", id="an unknown provider"),
        pytest.param({"provider": NOBODY_S_PROVIDER}, ".provider", "no provider", id="nobody's aigp_ ID"),
        pytest.param({"model": "gpt-4o"}, ".model", "openai:gpt-4o", id="a bare model"),
        pytest.param({"model": "openai/gpt-4o"}, ".model", "openai:gpt-4o", id="an open model ID"),
        pytest.param({"model": "meta-llama/llama:free"}, ".model", "openai:gpt-4o", id="an open model ID with a colon"),
        pytest.param({"provider": "groq", "model": "llama"}, ".model", "groq:", id="a bare model beside the provider"),
        pytest.param({"model": "opnai:gpt-4o"}, ".model", "openai", id="a model of an unknown provider"),
        pytest.param({"model": "openai:"}, ".model", "missing", id="no model after the colon"),
        pytest.param({"model": ":gpt-4o"}, ".model", "no provider", id="no provider before the colon"),
        pytest.param({"provider": "groq", "model": "openai:gpt-4o"}, ".model", "not the one", id="they disagree"),
        pytest.param({"provider": "openai", "model": "groq:openai/x"}, ".model", "not the one", id="they disagree too"),
    ],
)
def test_a_rule_that_is_for_nothing_known_is_refused_at_its_path(api, known, assert_refused, subject, path, hint):
    rules = [rule("anthropic"), {**subject, "steps": [user(inline())]}]

    details = refused(api, assert_refused, {"rules": rules})

    assert set(details) == {f"router.rules[1]{path}"}
    assert hint in details[f"router.rules[1]{path}"]


@pytest.mark.parametrize("provider", ["my-ollama", "{custom}"])
@pytest.mark.parametrize("model", ["my-ollama:llama3.2", "{custom}:llama3.2"])
def test_provider_and_model_agree_by_either_name(api, known, provider, model):
    custom = {"provider": provider.format(custom=known.custom), "model": model.format(custom=known.custom)}

    answer = api.post(URL, {"name": "n", "router": {"rules": [{**custom, "steps": [user({"id": known.custom_key})]}]}})

    assert answer.status_code == 201
    shown = answer.json()["router"]["rules"][0]
    assert {name: shown[name] for name in custom} == custom


@pytest.mark.parametrize(
    ("first", "second", "field"),
    [
        ({"provider": "openai"}, {"provider": "openai"}, "provider"),
        ({"provider": "my-ollama"}, {"provider": "{custom}"}, "provider"),
        ({"model": "openai:gpt-4o"}, {"model": "openai:gpt-4o"}, "model"),
        ({"model": "openai:gpt-4o"}, {"model": "openai:openai/GPT-4o"}, "model"),
        ({"model": "openai:gpt-4o"}, {"provider": "openai", "model": "openai:gpt-4o"}, "model"),
        ({"model": "my-ollama:a"}, {"provider": "{custom}", "model": "{custom}:A"}, "model"),
    ],
)
def test_a_second_rule_for_the_same_is_refused_at_the_later_one(api, known, assert_refused, first, second, field):
    rules = [
        {**{name: text.format(custom=known.custom) for name, text in subject.items()}, "steps": [user(inline())]}
        for subject in (first, {"provider": "groq"}, second)
    ]

    details = refused(api, assert_refused, {"rules": rules})

    assert set(details) == {f"router.rules[2].{field}"}
    assert "router.rules[0]" in details[f"router.rules[2].{field}"]


# ── which key is tried first ──


@pytest.mark.parametrize("strategy", ["ordered", "weighted", "leastBusy", "sticky"])
def test_a_strategy_is_read_back_and_published(api, account, known, strategy):
    step = user({"id": known.openai}, {"id": known.other_openai}, keySelectionStrategy=strategy)

    written = api.post(URL, {"name": "n", "router": {"rules": [rule("openai", step)]}}).json()

    (shown,) = written["router"]["rules"][0]["steps"]
    assert shown["keySelectionStrategy"] == strategy
    assert all("weight" not in key for key in shown["keys"])
    (published,) = build(account.configuration_set.with_named().get()).rules
    assert published.steps == (Step("user", (known.openai, known.other_openai), strategy=strategy),)


def test_weights_are_read_back_published_and_may_be_sent_back_as_they_were_read(api, account, known):
    step = user({"id": known.openai, "weight": 3}, {"id": known.other_openai}, keySelectionStrategy="weighted")
    step["keys"].append({**inline(), "weight": 1000})
    written = api.post(URL, {"name": "n", "router": {"rules": [rule("openai", step)]}}).json()

    again = api.patch(f"{URL}/{written['id']}", {"router": written["router"]})

    assert again.status_code == 200, again.content
    keys = again.json()["router"]["rules"][0]["steps"][0]["keys"]
    assert [key.get("weight") for key in keys] == [3, None, 1000]
    assert set(keys[0]) == {"id", "name", "keyRedacted", "weight"}
    (published,) = build(account.configuration_set.with_named().get()).rules
    assert published.steps[0].weights == (3, 1, 1000)
    assert again.headers["ETag"] == api.get(f"{URL}/{written['id']}").headers["ETag"]


@pytest.mark.parametrize("weight", [0, -1, 1001, 1.5, "3", True, None, [1]])
def test_a_weight_that_is_none_is_refused_at_its_path(api, known, assert_refused, weight):
    step = user({"id": known.openai}, {"id": known.other_openai, "weight": weight}, keySelectionStrategy="weighted")

    details = refused(api, assert_refused, {"rules": [rule("openai", step)]})

    assert set(details) == {"router.rules[0].steps[0].keys[1].weight"}


@pytest.mark.parametrize("strategy", [{}, {"keySelectionStrategy": "sticky"}, {"keySelectionStrategy": "ordered"}])
def test_a_weight_that_would_do_nothing_is_refused(api, known, assert_refused, strategy):
    step = user({"id": known.openai, "weight": 2}, inline(), **strategy)

    details = refused(api, assert_refused, {"rules": [rule("openai", step)]})

    assert set(details) == {"router.rules[0].steps[0].keys[0].weight"}


# ── steps and keys ──


@pytest.mark.parametrize(
    "subject",
    [{"provider": "groq"}, {"provider": "my-ollama"}, {"provider": "{custom}"}, {"model": "groq:openai/gpt-oss-120b"}],
)
def test_managed_inference_is_for_the_providers_that_have_it(api, known, assert_refused, subject):
    subject = {name: text.format(custom=known.custom) for name, text in subject.items()}

    details = refused(api, assert_refused, {"rules": [{**subject, "steps": [user(inline()), MANAGED]}]})

    assert set(details) == {"router.rules[0].steps[1].type"}


@pytest.mark.parametrize(
    ("key", "path"),
    [
        pytest.param({"id": None}, ".id", id="id null"),
        pytest.param({"id": 7}, ".id", id="id no string"),
        pytest.param({"id": "nonsense"}, ".id", id="no ID"),
        pytest.param({"id": "aigk_01h455vb4pex5vsknk084sn02q"}, ".id", id="an access key's ID"),
        pytest.param({"id": NOBODY_S_KEY}, ".id", id="nobody's"),
        pytest.param({"id": "{groq}"}, ".id", id="another provider's"),
        pytest.param({"id": "{openai}", "name": "a"}, "", id="id and name"),
        pytest.param({"id": "{openai}", "value": "abcdefgh"}, "", id="id and value"),
        pytest.param({"id": "{openai}", "name": "a", "value": "abcdefgh"}, "", id="all three"),
        pytest.param({"name": "a"}, ".value", id="no value"),
        pytest.param({"value": "abcdefgh"}, ".name", id="no name"),
        pytest.param({"name": None, "value": "abcdefgh"}, ".name", id="name null"),
        pytest.param({"name": "a", "value": None}, ".value", id="value null"),
        pytest.param({"name": "", "value": "abcdefgh"}, ".name", id="name empty"),
        pytest.param({"name": "x" * 256, "value": "abcdefgh"}, ".name", id="name too long"),
        pytest.param({"name": 7, "value": "abcdefgh"}, ".name", id="name no string"),
        pytest.param({"name": "a\nb", "value": "abcdefgh"}, ".name", id="a newline in the name"),
        pytest.param({"name": "a", "value": ""}, ".value", id="value empty"),
        pytest.param({"name": "a", "value": " \n"}, ".value", id="value of white space"),
        pytest.param({"name": "a", "value": 12345678}, ".value", id="value no string"),
        pytest.param({"name": "a", "value": "ab cd"}, ".value", id="white space within"),
        pytest.param({"name": "a", "value": "clé"}, ".value", id="non-ASCII"),
        pytest.param({"name": "a", "value": "x" * 4097}, ".value", id="value too long"),
        pytest.param({"name": "a", "value": "abcdefgh", "description": "d"}, ".description", id="a description"),
        pytest.param({"id": "{openai}", "keyRedacted": 7}, ".keyRedacted", id="a mask that is no text"),
        pytest.param({"keyRedacted": "***"}, ".keyRedacted", id="a mask alone"),
        pytest.param(
            {"name": "a", "value": "abcdefgh", "keyRedacted": "***"}, ".keyRedacted", id="a mask of a new key"
        ),
    ],
)
def test_a_key_that_is_none_is_refused_at_its_path(api, account, known, assert_refused, key, path):
    before = account.providerkey_set.count()
    key = {name: text.format(**vars(known)) if isinstance(text, str) else text for name, text in key.items()}
    place = "router.rules[0].steps[1].keys[1]"

    details = refused(api, assert_refused, {"rules": [rule("openai", MANAGED, user({"id": known.other_openai}, key))]})

    assert set(details) == {f"{place}{path}"}
    assert account.providerkey_set.count() == before


def test_both_faults_of_an_inline_key_are_told(api, assert_refused):
    details = refused(
        api, assert_refused, {"rules": [rule("openai", user({"name": "", "value": "a b"}, {"value": 7}))]}
    )

    place = "router.rules[0].steps[0].keys"
    assert set(details) == {f"{place}[0].name", f"{place}[0].value", f"{place}[1].name", f"{place}[1].value"}


def test_a_key_twice_in_a_step_is_refused_at_the_second_place(api, known, assert_refused):
    step = user({"id": known.openai}, inline("sk-0123456789"), {"id": known.openai}, inline(" sk-0123456789", "b"))

    details = refused(api, assert_refused, {"rules": [rule("openai", step, user({"id": known.openai}))]})

    place = "router.rules[0].steps[0].keys"
    assert set(details) == {f"{place}[2].id", f"{place}[3].value"}
    assert f"{place}[0]" in details[f"{place}[2].id"]
    assert f"{place}[1]" in details[f"{place}[3].value"]


def test_another_account_s_provider_key_is_unknown(api, other_account, other_principal, assert_refused):
    value = PlainValue("sk-of-a-stranger")
    stranger_s = create_provider_key(
        account=other_account, by=other_principal, provider_id="groq", name="secret project", value=value
    )

    details = refused(api, assert_refused, {"rules": [rule("openai", user({"id": stranger_s.text_id}))]})

    # The very words of an ID that is nobody's, and nothing of its provider, name or mask.
    nobody_s = ids.to_text(ids.Prefix.PROVIDER_KEY, ids.new_id())
    assert details == refused(api, assert_refused, {"rules": [rule("openai", user({"id": nobody_s}))]})
    assert set(details) == {"router.rules[0].steps[0].keys[0].id"}


def test_every_fault_of_a_router_is_told_in_one_answer(api, known, assert_refused):
    rules = [
        {"provider": "opnai", "steps": [{"type": "managed"}]},
        {"steps": [user({"id": "nonsense"}, {"name": "a", "value": "b c"})]},
        rule("groq", MANAGED, user({"id": known.openai}), user()),
        rule("groq", user({"id": known.groq})),
        {"model": "gpt-4o", "steps": [{"type": "user", "keySelectionStrategy": "best"}]},
        7,
    ]

    assert set(refused(api, assert_refused, {"rules": rules})) == {
        "router.rules[0].provider",
        "router.rules[0].steps[0].type",
        "router.rules[1]",
        "router.rules[1].steps[0].keys[0].id",
        "router.rules[1].steps[0].keys[1].value",
        "router.rules[2].steps[0].type",
        "router.rules[2].steps[1].keys[0].id",
        "router.rules[2].steps[2].keys",
        "router.rules[3].provider",
        "router.rules[4].model",
        "router.rules[4].steps[0].keys",
        "router.rules[4].steps[0].keySelectionStrategy",
        "router.rules[5]",
    }


def test_a_refusal_echoes_nothing_that_was_written(api, known, assert_refused):
    secret = "sk-proj-MARKED0123456789"
    rules = [
        {
            "provider": secret,
            "model": secret,
            secret: secret,
            "steps": [{"type": secret, "keySelectionStrategy": secret}],
        },
        rule("openai", user({"id": secret}, {"name": 7, "value": secret}, {"id": known.openai, "value": secret})),
        rule("groq", user(inline(secret), inline(secret), {"name": "a", "value": f"{secret} {secret}"})),
        rule("openai", {"type": "ngrok", "keys": [inline(secret)]}),
    ]

    answer = api.post(URL, {"name": "n", "router": {"rules": rules, secret: 1}, "access": secret})

    assert len(assert_refused(answer, 422, "configuration_invalid")) >= 10
    assert "MARKED" not in answer.content.decode()


def test_the_largest_router_is_taken(api, account, known):
    rules = [
        rule(
            "openai", *[user(*[inline(f"key-{r}-{s}-{k}") for k in range(5)]) for s in range(20)], model=f"openai:m{r}"
        )
        for r in range(5)
    ] + [rule("openai", model=f"openai:n{r}") for r in range(195)]

    answer = api.post(URL, {"name": "n", "router": {"rules": rules}})

    assert answer.status_code == 201, answer.json()
    assert account.providerkey_set.filter(name="inline").count() == 500
