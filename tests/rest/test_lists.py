"""Holds: rest.pagination

Lists: newest first, by key (contract, section 1).
"""

import uuid
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_keys.models import AccessKey
from access_keys.services import create_access_key, delete_access_key
from gateway_core import ids


@pytest.fixture
def create(account, principal):
    return lambda **given: create_access_key(account=account, by=principal, **given).access_key


def names(answer):
    return [item["name"] for item in answer.json()["aiGatewayAccessKeys"]]


def test_an_empty_list_has_its_own_uri_and_no_next_page(api):
    assert api.get("access-keys").json() == {
        "aiGatewayAccessKeys": [],
        "uri": "http://testserver/access-keys",
        "nextPageUri": None,
    }


def test_pages_follow_each_other_newest_first_without_gap_or_repetition(api, create):
    for number in range(7):
        create(name=str(number))

    seen, path = [], "access-keys?limit=3"
    while path:
        answer = api.get(path)
        assert answer.json()["uri"].endswith(path.removeprefix("http://testserver"))
        seen.append(names(answer))
        path = answer.json()["nextPageUri"]

    assert seen == [["6", "5", "4"], ["3", "2", "1"], ["0"]]


def test_a_last_page_that_is_full_has_no_next_one(api, create):
    create(name="a"), create(name="b")

    assert api.get("access-keys?limit=2").json()["nextPageUri"] is None


def test_the_default_page_has_a_hundred_items(api, account, create):
    for _ in range(101):
        create()

    answer = api.get("access-keys").json()

    assert len(answer["aiGatewayAccessKeys"]) == 100
    assert answer["nextPageUri"].startswith("http://testserver/access-keys?limit=100&beforeId=aigk_")


def test_before_id_takes_the_id_of_a_deleted_item(api, create, principal):
    create(name="old")
    deleted = create(name="deleted")
    create(name="new")
    delete_access_key(access_key=deleted, by=principal)

    assert names(api.get(f"access-keys?beforeId={deleted.text_id}")) == ["old"]


def test_before_id_of_another_account_only_marks_a_place(api, create, other_account, other_principal):
    create(name="mine")
    foreign = create_access_key(account=other_account, by=other_principal, name="foreign").access_key

    assert names(api.get(f"access-keys?beforeId={foreign.text_id}")) == ["mine"]


def test_the_next_page_keeps_the_filter(api, create):
    wanted = "light blue"
    create(name=wanted), create(name="other"), create(name=wanted)

    answer = api.get("access-keys?limit=1&name=light%20blue").json()

    query = parse_qs(urlsplit(answer["nextPageUri"]).query)
    assert query.pop("beforeId") == [answer["aiGatewayAccessKeys"][-1]["id"]]
    assert query == {"limit": ["1"], "name": [wanted]}
    assert [item["name"] for item in api.get(answer["nextPageUri"]).json()["aiGatewayAccessKeys"]] == [wanted]


@pytest.mark.parametrize(
    ("query", "near"),
    [("nmae=x", "name"), ("accesskeyconfigurationid=x", "accessKeyConfigurationId"), ("Limit=1", "limit")],
)
def test_a_mistyped_parameter_is_refused_with_the_known_one(api, create, query, near):
    create(name="kept")

    answer = api.get(f"access-keys?{query}")

    assert answer.status_code == 400
    assert f"did you mean {near}?" in answer.json()["details"][query.partition("=")[0]]


@pytest.mark.parametrize("name", ["", "Kept", "kep", "%00", "nothing"])
def test_a_name_that_no_object_has_exactly_lists_nothing(api, create, name):
    create(name="kept")

    assert names(api.get(f"access-keys?name={name}")) == []


def test_access_keys_are_listed_by_their_configuration(api, create):
    linked = api.post("access-key-configurations", {"name": "c"}).json()["id"]
    api.post("access-keys", {"name": "linked", "accessKeyConfigurationId": linked})
    create(name="free")

    assert names(api.get(f"access-keys?accessKeyConfigurationId={linked}")) == ["linked"]
    assert api.get("access-keys?accessKeyConfigurationId=aigk_x").status_code == 400


@pytest.mark.parametrize(
    "limit", ["", "0", "101", "-1", "1.5", "abc", "1e1", "+5", " 5", "0x10", "٥", "1" * 5000, "null"]
)
def test_a_limit_outside_of_1_to_100_is_refused(api, assert_refused, limit):
    assert_refused(api.get(f"access-keys?limit={limit}"), 400, "query_invalid", "limit")


def test_a_meaningless_before_id_is_refused(api, assert_refused):
    good = ids.to_text(ids.Prefix.ACCESS_KEY, ids.new_id())
    api_key = ids.to_text(ids.Prefix.API_KEY, ids.new_id())
    for bad in (
        "",
        "abc",
        "aigk_",
        good[:-1],
        good + "0",
        good.upper(),
        api_key,
        "%00",
        "%FF",
        "x" * 5000,
        "aigk_8" + "z" * 25,
    ):
        assert_refused(api.get(f"access-keys?beforeId={bad}"), 400, "query_invalid", "beforeId")


@pytest.mark.parametrize("name", ["limit", "beforeId"])
def test_a_parameter_that_is_given_twice_is_refused(api, assert_refused, name):
    value = {"limit": "1", "beforeId": ids.to_text(ids.Prefix.ACCESS_KEY, ids.new_id())}[name]

    assert_refused(api.get(f"access-keys?{name}={value}&{name}={value}"), 400, "query_invalid", name)


def test_a_page_takes_one_query_however_many_items_it_has(api, create):
    def queries_of_a_page():
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert api.get("access-keys").status_code == 200
        return [query["sql"] for query in captured if "access_keys_accesskey" in query["sql"]]

    create()
    with_one = queries_of_a_page()
    for _ in range(30):
        create()
    with_many = queries_of_a_page()

    assert len(with_one) == len(with_many) == 1
    assert "COUNT(" not in with_many[0]


def test_a_page_is_one_range_of_one_index_wherever_it_stands(account, other_account):
    with connection.cursor() as cursor:
        for owner in (account, other_account):
            cursor.execute(
                """
                INSERT INTO access_keys_accesskey
                    (id, account_id, created_at, updated_at, created_by, last_updated_by, digest, key_redacted,
                     disabled)
                SELECT gen_random_uuid(), %s, now(), now(), '', '', gen_random_uuid()::text, '***', false
                FROM generate_series(1, 20000)
                """,
                [owner.id],
            )
        cursor.execute("ANALYZE access_keys_accesskey")

    for marker in (uuid.UUID(int=2**128 - 1), uuid.UUID(int=2**127), uuid.UUID(int=2**120)):
        plan = AccessKey.objects.filter(account=account, id__lt=marker).order_by("-id")[:101].explain(analyze=True)

        assert "Index Scan using access_keys_newest_first" in plan
        assert "Sort" not in plan
        assert "Removed by Filter" not in plan
