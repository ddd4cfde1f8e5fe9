"""Holds: access_keys.views, access_keys.services, access_keys.snapshot_documents

Access keys over the wire (contract, section 2), and as the data plane sees them.
"""

import json
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from access_keys import snapshot_documents
from access_keys.models import AccessKey
from access_keys.services import create_access_key, delete_access_key, update_access_key
from configurations.services import ConfigurationInUse, create_configuration, delete_configuration
from gateway_core import ids, tokens
from gateway_core.snapshot import TokenDocument
from rest.errors import GatewayError
from snapshots.models import Change
from tests.fixtures import open_account

ALWAYS = {
    "id",
    "uri",
    "createdAt",
    "updatedAt",
    "createdBy",
    "lastUpdatedBy",
    "keyRedacted",
    "lastUsed",
    "accessKeyConfiguration",
}
NOBODYS = "aigac_01h455vb4pex5vsknk084sn02q"


@pytest.fixture
def configuration(account, principal):
    return create_configuration(account=account, by=principal, name="shared")


@pytest.fixture
def foreign_configuration(other_account, other_principal):
    return create_configuration(account=other_account, by=other_principal, name="foreign")


def test_an_access_key_with_nothing_set_shows_what_is_always_there(api, principal):
    created = api.post("access-keys", {})

    body = created.json()
    assert created.status_code == 201
    assert set(body) == ALWAYS | {"token"}
    assert body["lastUsed"] is None
    assert body["accessKeyConfiguration"] is None
    assert body["createdAt"] == body["updatedAt"]
    assert body["createdBy"] == body["lastUpdatedBy"]
    assert body["createdBy"] == {"id": principal.id, "uri": f"http://testserver/api-keys/{principal.id}"}
    assert body["uri"] == created["Location"] == f"http://testserver/access-keys/{body['id']}"


def test_an_access_key_shows_what_was_set(api, configuration):
    given = {"name": "app", "description": "d", "metadata": "m"}

    body = api.post("access-keys", {**given, "accessKeyConfigurationId": configuration.text_id}).json()

    assert {name: body[name] for name in given} == given
    assert body["accessKeyConfiguration"] == {
        "id": configuration.text_id,
        "uri": f"http://testserver/access-key-configurations/{configuration.text_id}",
        "name": "shared",
    }


def test_the_token_is_shown_once_and_stored_nowhere(api):
    body = api.post("access-keys", {"name": "app"}).json()
    token = body.pop("token")

    assert tokens.is_well_formed(tokens.ACCESS_KEY_PREFIX, token)
    assert body["keyRedacted"] == f"{token[:10]}***{token[-4:]}"
    for answer in (api.get(body["uri"]), api.get("access-keys"), api.patch(body["uri"], {"name": "x"})):
        assert token not in answer.content.decode()
    row = AccessKey.objects.values().get()
    assert token not in json.dumps(row, default=str)
    assert row["digest"] == tokens.digest(token)


def test_post_get_and_list_show_the_same_object(api, configuration):
    created = api.post("access-keys", {"name": "a", "accessKeyConfigurationId": configuration.text_id}).json()
    del created["token"]

    assert api.get(created["uri"]).json() == created
    assert api.get("access-keys").json()["aiGatewayAccessKeys"] == [created]


def test_a_patch_links_and_null_unlinks(api, configuration):
    uri = api.post("access-keys", {"name": "a"}).json()["uri"]

    linked = api.patch(uri, {"accessKeyConfigurationId": configuration.text_id}).json()
    kept = api.patch(uri, {"name": "b"}).json()
    unlinked = api.patch(uri, {"accessKeyConfigurationId": None}).json()

    assert linked["accessKeyConfiguration"]["id"] == kept["accessKeyConfiguration"]["id"] == configuration.text_id
    assert unlinked["accessKeyConfiguration"] is None
    assert unlinked["name"] == "b"
    assert linked["updatedAt"] < kept["updatedAt"] < unlinked["updatedAt"]


def test_an_empty_patch_changes_nothing_not_even_the_time(api, bob):
    before = api.post("access-keys", {"name": "a"}).json()
    Change.objects.all().delete()

    after = bob.patch(before["uri"], {})

    assert after.status_code == 200
    assert {**after.json(), "token": before["token"]} == before
    assert Change.objects.count() == 0


@pytest.mark.parametrize("method", ["post", "patch"])
@pytest.mark.parametrize("whose", ["nobody's", "a stranger's"])
def test_a_configuration_that_the_account_does_not_have_is_refused(
    api, assert_refused, foreign_configuration, method, whose
):
    path = "access-keys" if method == "post" else api.post("access-keys", {}).json()["uri"]
    text_id = NOBODYS if whose == "nobody's" else foreign_configuration.text_id

    answer = getattr(api, method)(path, {"accessKeyConfigurationId": text_id})

    details = assert_refused(answer, 422, "configuration_unknown", "accessKeyConfigurationId")
    assert set(details) == {"accessKeyConfigurationId"}
    assert not AccessKey.objects.exclude(configuration=None).exists()


REFUSED = [
    ({"accessKeyConfigurationId": ""}, "accessKeyConfigurationId"),
    ({"accessKeyConfigurationId": 1}, "accessKeyConfigurationId"),
    ({"accessKeyConfigurationId": {"id": NOBODYS}}, "accessKeyConfigurationId"),
    ({"accessKeyConfigurationId": "aigk_01h455vb4pex5vsknk084sn02q"}, "accessKeyConfigurationId"),
    ({"accessKeyConfigurationId": NOBODYS.upper()}, "accessKeyConfigurationId"),
    ({"accessKeyConfiguration": {"id": NOBODYS}}, "accessKeyConfiguration"),
    ({"configurationId": NOBODYS}, "configurationId"),
    ({"configuration_id": NOBODYS}, "configuration_id"),
    ({"name": 1}, "name"),
    ({"name": "x" * 256}, "name"),
    ({"name": "a\u0000"}, "name"),
    ({"description": "x" * 256}, "description"),
    ({"metadata": "x" * 4097}, "metadata"),
    ({"metadata": {"a": 1}}, "metadata"),
    ({"disabled": "no"}, "disabled"),
    ({"expiresAt": "soon"}, "expiresAt"),
    ({"token": "gwk_x"}, "token"),
    ({"keyRedacted": "***"}, "keyRedacted"),
]


@pytest.mark.parametrize(("body", "path"), REFUSED)
def test_a_write_that_breaks_a_rule_is_refused_under_its_path(api, assert_refused, body, path):
    uri = api.post("access-keys", {"name": "before"}).json()["uri"]

    assert list(assert_refused(api.post("access-keys", body), 422, "invalid_request", path)) == [path]
    assert list(assert_refused(api.patch(uri, body), 422, "invalid_request", path)) == [path]

    assert AccessKey.objects.get().name == "before"


@pytest.mark.parametrize(
    "name", ["name", "description", "metadata", "accessKeyConfigurationId", "disabled", "expiresAt"]
)
def test_null_in_a_post_is_refused(api, assert_refused, name):
    assert_refused(api.post("access-keys", {name: None}), 422, "invalid_request", name)


def test_a_field_that_resembles_the_configurations_is_told_its_name(api, assert_refused):
    details = assert_refused(api.post("access-keys", {"accessKeyConfigId": NOBODYS}), 422, "invalid_request")

    assert details == {"accessKeyConfigId": "There is no such field; did you mean accessKeyConfigurationId?"}


def test_a_deleted_access_key_is_gone(api, assert_refused):
    uri = api.post("access-keys", {}).json()["uri"]

    deleted = api.delete(uri)

    assert (deleted.status_code, deleted.content) == (204, b"")
    for answer in (api.get(uri), api.patch(uri, {}), api.delete(uri)):
        assert_refused(answer, 404, "not_found")


@pytest.mark.parametrize("method", ["get", "delete", "patch"])
def test_another_accounts_access_key_does_not_exist(api, other_api, assert_refused, method):
    foreign = other_api.post("access-keys", {"name": "theirs"}).json()
    arguments = [{"name": "mine"}] if method == "patch" else []

    assert_refused(getattr(api, method)(foreign["uri"], *arguments), 404, "not_found")

    assert other_api.get(foreign["uri"]).json()["name"] == "theirs"
    assert api.get("access-keys").json()["aiGatewayAccessKeys"] == []


def test_a_list_takes_one_query_with_its_configurations(api, account, principal, configuration):
    for _ in range(5):
        create_access_key(account=account, by=principal, configuration_id=configuration.id)
    api.get("api-keys")  # the API key's use is noted once a minute

    with CaptureQueriesContext(connection) as captured:
        assert len(api.get("access-keys").json()["aiGatewayAccessKeys"]) == 5

    assert len(captured) == 2, "one for the API key, one for the page"


def test_every_write_tells_the_snapshot_which_document_changed(account, principal):
    access_key = create_access_key(account=account, by=principal).access_key
    update_access_key(access_key=access_key, by=principal, disabled=True)
    delete_access_key(access_key=access_key, by=principal)

    assert [change.document for change in Change.objects.order_by("pk")] == [f"token:{access_key.digest}"] * 3


def test_the_data_plane_sees_a_token_with_all_that_decides(account, principal, configuration):
    expires_at = datetime(2030, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    plain = create_access_key(account=account, by=principal).access_key
    full = create_access_key(
        account=account, by=principal, configuration_id=configuration.id, expires_at=expires_at, disabled=True
    ).access_key

    documents = snapshot_documents.documents(
        account, [plain.snapshot_document, full.snapshot_document, "token:" + "0" * 64]
    )

    assert documents == {
        plain.snapshot_document: TokenDocument(account=account.text_id, access_key=plain.text_id),
        full.snapshot_document: TokenDocument(
            account=account.text_id,
            access_key=full.text_id,
            configuration=configuration.text_id,
            expires_at=1893456000123456,
            disabled=True,
        ),
        "token:" + "0" * 64: None,
    }
    assert {name: document for _, name, document in snapshot_documents.all_documents([account])} == {
        name: document for name, document in documents.items() if document is not None
    }


def test_a_snapshot_never_holds_another_accounts_token(account, other_account, other_principal):
    foreign = create_access_key(account=other_account, by=other_principal).access_key

    assert snapshot_documents.documents(account, [foreign.snapshot_document]) == {foreign.snapshot_document: None}
    assert list(snapshot_documents.all_documents([account])) == []


@pytest.mark.django_db(transaction=True)
def test_a_link_and_the_deletion_of_its_configuration_never_both_succeed():
    account, principal, _ = open_account("Alice's")
    outcomes = []
    for _ in range(10):
        configuration = create_configuration(account=account, by=principal, name="shared")
        together = threading.Barrier(2)
        done: dict[str, Any] = {}

        def run(name, act, together=together, done=done):
            try:
                together.wait()
                act()
                done[name] = True
            except (GatewayError, ConfigurationInUse):
                done[name] = False
            except IntegrityError as fault:
                done[name] = fault
            finally:
                connection.close()

        acts = {
            "link": lambda c=configuration: create_access_key(account=account, by=principal, configuration_id=c.id),
            "delete": lambda c=configuration: delete_configuration(configuration=c, by=principal),
        }
        racers = [threading.Thread(target=run, args=item) for item in acts.items()]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        outcomes.append((done["link"], done["delete"]))

    assert set(outcomes) <= {(True, False), (False, True)}


def test_ids_in_a_path_have_one_spelling(api, assert_refused):
    uri = api.post("access-keys", {}).json()["uri"]
    text_id = uri.rpartition("/")[2]

    plain = str(ids.from_text(ids.Prefix.ACCESS_KEY, text_id))
    for bad in (text_id.upper(), text_id[:-1], text_id + "0", text_id[5:], plain):
        assert_refused(api.get(f"access-keys/{bad}"), 404, "not_found")
    assert_refused(api.get(f"access-keys/{text_id}/"), 404, "not_found")
    assert_refused(api.get("access-keys/"), 404, "not_found")
