"""Holds: providers.views, providers.services

Custom providers over the wire (contract, section 5), but for where they may stand (test_base_urls).
"""

import threading

import pytest
from django.db import connection, transaction

from gateway_core import ids
from gateway_core.catalog import BUILT_IN, Surface
from gateway_core.snapshot import ProviderDocument, SurfaceSupport
from providers import services, snapshot_documents
from providers.base_url_check import vet
from providers.models import Provider, ProviderModel
from snapshots.models import Change

MINIMAL = {"providerId": "my-ollama", "name": "Ollama", "baseUrl": "https://ollama.example.com"}
FULL = {
    **MINIMAL,
    "metadata": "team: a\nroom: 2",
    "supportedApiSurfaces": [
        {"format": "openai", "surface": "chat-completions", "supportedParams": [{"name": "temperature"}]},
        {"format": "openai", "surface": "embeddings", "supportedParams": []},
        {"format": "anthropic"},
    ],
    "models": [{"modelId": "llama3.2:latest"}, {"modelId": "org/model"}],
}


def test_a_provider_is_created_with_all_that_was_written(api):
    answer = api.post("/providers", FULL)

    provider = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == provider["uri"] == f"http://testserver/providers/{provider['id']}"
    assert {name: provider[name] for name in FULL if name != "models"} == {
        name: value for name, value in FULL.items() if name != "models"
    }
    assert [model["modelId"] for model in provider["models"]] == ["llama3.2:latest", "org/model"]
    for model in provider["models"]:
        ids.from_text(ids.Prefix.PROVIDER_MODEL, model["id"])
    assert provider["createdBy"] == provider["lastUpdatedBy"]
    assert api.get(provider["uri"]).json() == provider
    assert api.get(provider["uri"]).headers["etag"] == answer.headers["etag"]


def test_what_was_not_given_is_absent_but_the_lists_are_there(api):
    provider = api.post("/providers", MINIMAL).json()

    assert set(provider) == {
        "id",
        "uri",
        "createdAt",
        "updatedAt",
        "createdBy",
        "lastUpdatedBy",
        "providerId",
        "name",
        "baseUrl",
        "supportedApiSurfaces",
        "models",
    }
    assert provider["models"] == []
    assert provider["supportedApiSurfaces"] == []


@pytest.mark.parametrize("slug", ["a", "0", "my-ollama", "my_ollama", "a--b", "x" * 255, "gpt-4", "ngrok", "openai-2"])
def test_a_provider_id_is_a_lower_case_slug(api, slug):
    assert api.post("/providers", {**MINIMAL, "providerId": slug}).json()["providerId"] == slug


@pytest.mark.parametrize(
    "slug",
    [
        "",
        " ",
        "My-Ollama",
        "my ollama",
        "-a",
        "a-",
        "_a",
        "a_",
        "a:b",
        "a/b",
        "a.b",
        "ü",
        "ａ",
        "a\n",
        "x" * 256,
        "a\x00",
    ],
)
def test_what_is_no_slug_is_refused(api, assert_refused, slug):
    assert_refused(api.post("/providers", {**MINIMAL, "providerId": slug}), 422, "invalid_request", "providerId")


@pytest.mark.parametrize("slug", [*BUILT_IN, "aigp_01h455vb4pex5vsknk084sn02q"])
def test_a_built_in_providers_id_and_what_looks_like_an_id_are_reserved(api, assert_refused, slug):
    assert_refused(api.post("/providers", {**MINIMAL, "providerId": slug}), 422, "provider_id_reserved", "providerId")


def test_a_provider_id_is_unique_in_the_account_and_only_there(api, other_api, assert_refused, create_provider):
    create_provider()

    assert_refused(api.post("/providers", MINIMAL), 409, "provider_exists", "providerId")
    assert other_api.post("/providers", MINIMAL).status_code == 201


def test_a_provider_id_is_free_again_after_its_provider_is_deleted(api, create_provider):
    api.delete(create_provider()["uri"])

    create_provider()


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": None}, "name"),
        ({"name": 5}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\tb"}, "name"),
        ({"baseUrl": None}, "baseUrl"),
        ({"baseUrl": ""}, "baseUrl"),
        ({"baseUrl": 5}, "baseUrl"),
        ({"baseUrl": ["https://example.com"]}, "baseUrl"),
        ({"metadata": None}, "metadata"),
        ({"metadata": 5}, "metadata"),
        ({"metadata": "x" * 4097}, "metadata"),
        ({"metadata": "a\x00"}, "metadata"),
        ({"models": None}, "models"),
        ({"models": {}}, "models"),
        ({"models": "llama"}, "models"),
        ({"models": ["llama"]}, "models[0]"),
        ({"models": [{"modelId": "a"}, None]}, "models[1]"),
        ({"models": [{}]}, "models[0].modelId"),
        ({"models": [{"modelId": ""}]}, "models[0].modelId"),
        ({"models": [{"modelId": " a"}]}, "models[0].modelId"),
        ({"models": [{"modelId": None}]}, "models[0].modelId"),
        ({"models": [{"modelId": 5}]}, "models[0].modelId"),
        ({"models": [{"modelId": "x" * 256}]}, "models[0].modelId"),
        ({"models": [{"modelId": "a\u0000"}]}, "models[0].modelId"),
        ({"models": [{"modelId": "a", "id": "aigpm_01h455vb4pex5vsknk084sn02q"}]}, "models[0].id"),
        ({"models": [{"modelID": "a"}]}, "models[0].modelID"),
        ({"models": [{"modelId": f"m{number}"} for number in range(5001)]}, "models"),
        ({"supportedApiSurfaces": None}, "supportedApiSurfaces"),
        ({"supportedApiSurfaces": {}}, "supportedApiSurfaces"),
        ({"supportedApiSurfaces": ["openai"]}, "supportedApiSurfaces[0]"),
        ({"supportedApiSurfaces": [{}]}, "supportedApiSurfaces[0].format"),
        ({"supportedApiSurfaces": [{"format": "OpenAI"}]}, "supportedApiSurfaces[0].format"),
        ({"supportedApiSurfaces": [{"format": None}]}, "supportedApiSurfaces[0].format"),
        ({"supportedApiSurfaces": [{"format": []}]}, "supportedApiSurfaces[0].format"),
        ({"supportedApiSurfaces": [{"format": "openai", "surface": "images"}]}, "supportedApiSurfaces[0].surface"),
        ({"supportedApiSurfaces": [{"format": "openai", "surface": None}]}, "supportedApiSurfaces[0].surface"),
        ({"supportedApiSurfaces": [{"format": "openai", "surface": "messages"}]}, "supportedApiSurfaces[0].surface"),
        (
            {"supportedApiSurfaces": [{"format": "anthropic", "surface": "embeddings"}]},
            "supportedApiSurfaces[0].surface",
        ),
        ({"supportedApiSurfaces": [{"format": "openai"}, {"format": "openai"}]}, "supportedApiSurfaces[1]"),
        (
            {"supportedApiSurfaces": [{"format": "openai", "supportedParams": None}]},
            "supportedApiSurfaces[0].supportedParams",
        ),
        (
            {"supportedApiSurfaces": [{"format": "openai", "supportedParams": ["temperature"]}]},
            "supportedApiSurfaces[0].supportedParams[0]",
        ),
        (
            {"supportedApiSurfaces": [{"format": "openai", "supportedParams": [{"name": ""}]}]},
            "supportedApiSurfaces[0].supportedParams[0].name",
        ),
        (
            {"supportedApiSurfaces": [{"format": "openai", "supportedParams": [{"name": "a", "type": "b"}]}]},
            "supportedApiSurfaces[0].supportedParams[0].type",
        ),
        ({"id": "aigp_01h455vb4pex5vsknk084sn02q"}, "id"),
        ({"base_url": "https://example.com"}, "base_url"),
        ({"description": "x"}, "description"),
        ({"apiKey": "sk-1234"}, "apiKey"),
    ],
)
def test_a_body_that_breaks_a_rule_is_refused_by_its_path_and_leaves_nothing(api, assert_refused, fields, path):
    assert_refused(api.post("/providers", {**MINIMAL, **fields}), 422, "invalid_request", path)
    assert not Provider.objects.exists()


@pytest.mark.parametrize("missing", ["providerId", "name", "baseUrl"])
def test_what_is_required_may_not_be_left_out(api, assert_refused, missing):
    body = {name: value for name, value in MINIMAL.items() if name != missing}

    assert_refused(api.post("/providers", body), 422, "invalid_request", missing)


def test_every_fault_is_told_at_once(api, assert_refused):
    body = {
        "providerId": "No",
        "baseUrl": "https://127.0.0.1:1@x",
        "models": [{"modelId": "a"}, {"modelId": 1}],
        "supportedApiSurfaces": [{"format": "x"}],
        "baseUrI": 1,
    }

    assert_refused(
        api.post("/providers", body),
        422,
        "invalid_request",
        "providerId",
        "name",
        "baseUrl",
        "models[1].modelId",
        "supportedApiSurfaces[0].format",
        "baseUrI",
    )


@pytest.mark.parametrize(
    "models",
    [["a", "a"], ["Llama", "llama"], ["org/a", "b", "my-ollama/org/a"], ["ẞ", "ss"]],
)
def test_a_model_listed_twice_is_refused_where_it_comes_again(api, assert_refused, create_provider, models):
    listed = [{"modelId": model} for model in models]

    details = assert_refused(api.post("/providers", {**MINIMAL, "models": listed}), 422, "model_listed_twice")
    assert list(details) == [f"models[{len(models) - 1}].modelId"]
    assert not Provider.objects.exists()

    provider = create_provider(models=[{"modelId": "kept"}])
    assert_refused(api.patch(provider["uri"], {"models": listed}), 422, "model_listed_twice")
    assert api.get(provider["uri"]).json() == provider


def test_models_that_stay_keep_their_ids_and_the_rest_goes(api, create_provider):
    provider = create_provider(models=[{"modelId": name} for name in ("a", "b", "c")])
    before = {model["modelId"]: model["id"] for model in provider["models"]}

    changed = api.patch(provider["uri"], {"models": [{"modelId": "d"}, {"modelId": "C"}, {"modelId": "a"}]}).json()

    after = {model["modelId"]: model["id"] for model in changed["models"]}
    assert set(after) == {"a", "C", "d"}
    assert (after["a"], after["C"]) == (before["a"], before["c"])
    assert after["d"] not in before.values()
    assert ProviderModel.objects.count() == 3


@pytest.mark.parametrize("nothing", [[], None])
def test_an_empty_list_and_null_clear_models_and_surfaces(api, create_provider, nothing):
    provider = create_provider(models=[{"modelId": "a"}], supportedApiSurfaces=[{"format": "openai"}])

    changed = api.patch(provider["uri"], {"models": nothing, "supportedApiSurfaces": nothing})

    assert changed.status_code == 200
    assert (changed.json()["models"], changed.json()["supportedApiSurfaces"]) == ([], [])


def test_a_patch_changes_what_it_names_and_nothing_else(api, bob, create_provider):
    provider = create_provider(**{name: value for name, value in FULL.items() if name not in MINIMAL})

    changed = bob.patch(
        provider["uri"], {"name": "New", "baseUrl": "https://new.example.com/x?y=1", "metadata": None}
    ).json()

    assert (changed["name"], changed["baseUrl"]) == ("New", "https://new.example.com/x?y=1")
    assert "metadata" not in changed
    for name in ("id", "createdAt", "createdBy", "providerId", "models", "supportedApiSurfaces"):
        assert changed[name] == provider[name]
    assert changed["updatedAt"] > provider["updatedAt"]
    assert changed["lastUpdatedBy"] != provider["lastUpdatedBy"]


def test_an_empty_patch_changes_and_publishes_nothing(api, create_provider):
    provider = create_provider(models=[{"modelId": "a"}])
    Change.objects.all().delete()

    answer = api.patch(provider["uri"], {})

    assert answer.status_code == 200
    assert answer.json() == provider
    assert not Change.objects.exists()


@pytest.mark.parametrize(("field", "value"), [("name", None), ("name", ""), ("baseUrl", None), ("baseUrl", "")])
def test_what_is_required_cannot_be_cleared(api, assert_refused, create_provider, field, value):
    provider = create_provider()

    assert_refused(api.patch(provider["uri"], {field: value}), 422, "invalid_request", field)
    assert api.get(provider["uri"]).json() == provider


@pytest.mark.parametrize("slug", ["other", "My-Ollama", None, 5])
def test_a_provider_id_never_changes(api, assert_refused, create_provider, slug):
    provider = create_provider()

    details = assert_refused(api.patch(provider["uri"], {"providerId": slug}), 422, "invalid_request", "providerId")
    assert "never changes" in details["providerId"]


def test_a_change_of_the_models_alone_makes_another_etag(api, assert_refused, create_provider):
    provider = create_provider()
    etag = api.get(provider["uri"]).headers["etag"]

    changed = api.patch(provider["uri"], {"models": [{"modelId": "a"}]}, if_match=etag)
    stale = api.patch(provider["uri"], {"models": []}, if_match=etag)

    assert changed.status_code == 200
    assert changed.json()["updatedAt"] > provider["updatedAt"]
    assert_refused(stale, 412, "precondition_failed")
    assert_refused(api.delete(provider["uri"], if_match=etag), 412, "precondition_failed")
    assert len(api.get(provider["uri"]).json()["models"]) == 1


def test_the_same_post_again_under_one_idempotency_key_makes_one_provider(api):
    first = api.post("/providers", FULL, idempotency_key="once")
    again = api.post("/providers", FULL, idempotency_key="once")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert Provider.objects.count() == 1


def test_a_list_holds_the_custom_ones_newest_first_in_pages(api, create_provider):
    made = [create_provider(providerId=f"p{number}", models=[{"modelId": "m"}])["id"] for number in range(3)]

    page = api.get("/providers?limit=2").json()
    last = api.get(page["nextPageUri"]).json()

    assert [one["id"] for one in page["aiGatewayProviders"]] == made[:0:-1]
    assert [one["id"] for one in last["aiGatewayProviders"]] == made[:1]
    assert last["nextPageUri"] is None
    assert page["aiGatewayProviders"][0]["models"][0]["modelId"] == "m"


def test_a_page_costs_the_same_queries_whatever_it_holds(api, create_provider, django_assert_max_num_queries):
    for number in range(5):
        create_provider(providerId=f"p{number}", models=[{"modelId": "a"}, {"modelId": "b"}])

    with django_assert_max_num_queries(4):
        api.get("/providers")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "beforeId=x", "beforeId=aigk_01h455vb4pex5vsknk084sn02q"]
)
def test_a_bad_query_is_refused(api, assert_refused, query):
    assert_refused(api.get(f"/providers?{query}"), 400, "query_invalid", query.partition("=")[0])


def test_head_answers_like_get(api, create_provider):
    uri = create_provider()["uri"]

    for path in ("/providers", uri):
        assert api.request("HEAD", path).status_code == 200
        assert api.request("HEAD", path).content == b""
        assert api.request("HEAD", path).headers.get("etag") == api.get(path).headers.get("etag")


def test_a_strangers_provider_does_not_exist(other_api, anonymous, assert_refused, create_provider):
    uri = create_provider()["uri"]

    assert_refused(other_api.get(uri), 404, "not_found")
    assert_refused(other_api.patch(uri, {"name": "x"}), 404, "not_found")
    assert_refused(other_api.delete(uri), 404, "not_found")
    assert other_api.get("/providers").json()["aiGatewayProviders"] == []
    assert_refused(anonymous.get(uri), 401, "unauthenticated")


@pytest.mark.parametrize(
    "identity", ["my-ollama", "openai", "aigk_01h455vb4pex5vsknk084sn02q", "aigp_x", "aigp_01h455vb4pex5vsknk084sn02q"]
)
def test_what_is_no_id_of_a_provider_is_not_found(api, assert_refused, create_provider, identity):
    create_provider()

    assert_refused(api.get(f"/providers/{identity}"), 404, "not_found")


def test_a_deleted_provider_is_gone_with_its_models(api, assert_refused, create_provider):
    provider = create_provider(models=[{"modelId": "a"}])

    assert api.delete(provider["uri"]).status_code == 204
    assert_refused(api.get(provider["uri"]), 404, "not_found")
    assert not ProviderModel.objects.exists()


def test_a_provider_in_use_stays_and_its_users_are_named(api, assert_refused, create_provider):
    provider = create_provider()
    key = api.post("/provider-keys", {"providerId": provider["id"], "name": "its key", "value": "x" * 30}).json()
    scope = {"providers": {"allow": ["my-ollama"]}}
    scoped = api.post("/access-key-configurations", {"name": "its scope", "access": scope}).json()
    rule = {"provider": "my-ollama", "steps": [{"type": "user", "keys": [{"id": key["id"]}]}]}
    routed = api.post("/access-key-configurations", {"name": "its rule", "router": {"rules": [rule]}}).json()

    details = assert_refused(api.delete(provider["uri"]), 409, "provider_in_use")

    assert details == {key["id"]: "its key", routed["id"]: "its rule", scoped["id"]: "its scope"}
    assert api.get(provider["uri"]).status_code == 200
    for user in (routed, scoped, key):
        assert api.delete(user["uri"]).status_code == 204
    assert api.delete(provider["uri"]).status_code == 204


def test_ten_users_are_named_and_no_more(api, assert_refused, create_provider):
    provider = create_provider()
    for number in range(7):
        api.post("/provider-keys", {"providerId": "my-ollama", "name": f"key {number}", "value": "x" * 30})
        scope = {"providers": {"allow": ["my-ollama"]}}
        api.post("/access-key-configurations", {"name": f"scope {number}", "access": scope})

    details = assert_refused(api.delete(provider["uri"]), 409, "provider_in_use")

    assert sorted(details.values()) == sorted([*(f"key {n}" for n in range(7)), *(f"scope {n}" for n in (4, 5, 6))])


@pytest.mark.django_db(transaction=True)
def test_a_provider_key_and_a_deletion_that_meet_never_leave_a_key_without_its_provider(api, assert_refused):
    provider = api.post("/providers", MINIMAL).json()
    is_looked_up, may_go_on = threading.Event(), threading.Event()
    answers = []

    def store_slowly():
        try:
            with transaction.atomic():
                answers.append(
                    api.post("/provider-keys", {"providerId": "my-ollama", "name": "k", "value": "x" * 30}).status_code
                )
                is_looked_up.set()
                may_go_on.wait(10)
        finally:
            connection.close()

    writer = threading.Thread(target=store_slowly)
    writer.start()
    assert is_looked_up.wait(10)
    deleted = []

    def delete():
        try:
            deleted.append(api.delete(provider["uri"]))
        finally:
            connection.close()

    deletion = threading.Thread(target=delete)
    deletion.start()
    deletion.join(0.3)
    may_go_on.set()
    writer.join()
    deletion.join()

    assert answers == [201]
    assert_refused(deleted[0], 409, "provider_in_use")


@pytest.mark.django_db(transaction=True)
def test_of_two_that_take_the_same_provider_id_at_once_one_wins(api):
    start = threading.Barrier(2)
    answers = []

    def take():
        try:
            start.wait()
            answers.append(api.post("/providers", MINIMAL).status_code)
        finally:
            connection.close()

    takers = [threading.Thread(target=take) for _ in range(2)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()

    assert sorted(answers) == [201, 409]


def test_every_write_records_the_provider_to_be_published(api, account, create_provider):
    def recorded():
        found = list(Change.objects.filter(account=account).values_list("document", flat=True))
        Change.objects.all().delete()
        return found

    provider = create_provider()
    assert recorded() == ["provider:my-ollama"]
    api.patch(provider["uri"], {"models": [{"modelId": "another"}]})
    assert recorded() == ["provider:my-ollama"]
    api.patch(provider["uri"], {"models": [{"modelId": "another"}]})
    assert recorded() == []
    api.delete(provider["uri"])
    assert recorded() == ["provider:my-ollama"]


def test_the_data_plane_sees_the_canonical_url_and_the_surfaces_with_their_parameters(account, create_provider):
    provider = create_provider(
        baseUrl="HTTPS://Ollama.Example.com:443/?api-version=1",
        models=[{"modelId": "b"}, {"modelId": "a"}],
        supportedApiSurfaces=[
            {"format": "openai"},
            {"format": "openai", "surface": "embeddings", "supportedParams": [{"name": "dimensions"}]},
            {"format": "anthropic", "surface": "messages", "supportedParams": []},
        ],
    )

    document = snapshot_documents.documents(account, ["provider:my-ollama", "provider:gone"])

    assert document["provider:gone"] is None
    found = document["provider:my-ollama"]
    assert isinstance(found, ProviderDocument)
    assert (found.id, found.base_url) == (provider["id"], "https://ollama.example.com/v1?api-version=1")
    assert found.models == ("b", "a")
    assert {support.surface.value: support.parameters for support in found.surfaces} == {
        "chat-completions": None,
        "completions": None,
        "responses": None,
        "embeddings": ("dimensions",),
        "messages": (),
    }
    assert list(snapshot_documents.all_documents([account])) == [(account, "provider:my-ollama", found)]


def test_without_surfaces_a_provider_serves_openais(account, create_provider):
    create_provider()

    ((*_, found),) = snapshot_documents.all_documents([account])

    assert isinstance(found, ProviderDocument)
    assert SurfaceSupport(Surface.CHAT_COMPLETIONS) in found.surfaces
    assert all(support.surface != "messages" for support in found.surfaces)


def test_a_service_takes_no_url_that_was_not_vetted(account, principal):
    with pytest.raises(AttributeError):
        services.create_provider(
            account=account,
            by=principal,
            provider_id="x",
            name="x",
            base_url="https://10.0.0.1",  # type: ignore[arg-type]
        )

    services.create_provider(account=account, by=principal, provider_id="x", name="x", base_url=vet("https://8.8.8.8"))
