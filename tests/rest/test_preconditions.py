"""Holds: rest.preconditions

ETag and If-Match, on every object of the API that has them.
"""

import threading

import pytest
from django.db import connection

from access_keys.services import create_access_key, update_access_key
from rest.errors import HeaderInvalid, PreconditionFailed
from rest.preconditions import IfMatch, etag_of, locked
from tests.fixtures import open_account


@pytest.fixture(params=["access-keys", "api-keys"])
def uri(request, api):
    return api.post(request.param, {"name": "first"}).json()["uri"]


def test_get_head_post_and_patch_name_the_same_state(api, uri):
    created = api.post("access-keys", {"name": "a"})
    path = created.json()["uri"]

    tags = {created["ETag"], api.get(path)["ETag"], api.request("HEAD", path)["ETag"], api.patch(path, {})["ETag"]}

    assert len(tags) == 1
    assert api.patch(path, {"name": "b"})["ETag"] not in tags


def test_a_write_with_the_present_etag_passes_and_with_an_old_one_is_refused(api, uri, assert_refused):
    old = api.get(uri)["ETag"]
    assert api.patch(uri, {"name": "second"}, if_match=old).status_code == 200

    assert_refused(api.patch(uri, {"name": "third"}, if_match=old), 412, "precondition_failed")
    assert_refused(api.patch(uri, {}, if_match=old), 412, "precondition_failed")
    assert_refused(api.delete(uri, if_match=old), 412, "precondition_failed")

    assert api.get(uri).json()["name"] == "second"
    assert api.delete(uri, if_match=api.get(uri)["ETag"]).status_code == 204


@pytest.mark.parametrize("form", ["*", '"other", {}', '{} , "other"'])
def test_one_of_several_etags_or_any_state_will_do(api, uri, form):
    assert api.patch(uri, {"name": "x"}, if_match=form.format(api.get(uri)["ETag"])).status_code == 200


def test_a_weak_etag_never_matches(api, uri, assert_refused):
    assert_refused(api.patch(uri, {}, if_match=f"W/{api.get(uri)['ETag']}"), 412, "precondition_failed")


@pytest.mark.parametrize("header", ["", "abc", '"abc', 'abc"', '"a" "b"', "**", '"a";"b"', '"\t"'])
def test_a_header_that_is_no_list_of_etags_is_refused(api, uri, assert_refused, header):
    assert_refused(api.patch(uri, {}, if_match=header), 400, "header_invalid", "If-Match")
    assert_refused(api.delete(uri, if_match=header), 400, "header_invalid", "If-Match")


def test_a_missing_object_is_404_whatever_it_should_match(api, uri, assert_refused):
    api.delete(uri)

    assert_refused(api.patch(uri, {}, if_match='"x"'), 404, "not_found")


@pytest.mark.django_db
def test_use_of_a_key_does_not_change_its_etag(account, principal):
    access_key = create_access_key(account=account, by=principal).access_key
    before = etag_of(access_key)

    access_key.last_used = access_key.created_at

    assert etag_of(access_key) == before


def test_parse_reads_what_rfc_9110_allows():
    assert IfMatch.parse(None).etags is None
    assert IfMatch.parse(" * ").etags is None
    assert IfMatch.parse('"a", W/"b" ,"c"').etags == {'"a"', 'W/"b"', '"c"'}
    assert IfMatch.parse(',, "a,b" , ,"",').etags == {'"a,b"', '""'}
    with pytest.raises(HeaderInvalid):
        IfMatch.parse(" , ")


@pytest.mark.django_db(transaction=True)
def test_of_two_writers_who_saw_the_same_state_one_is_refused():
    account, principal, _ = open_account("Alice's")
    access_key = create_access_key(account=account, by=principal, name="0").access_key
    seen = IfMatch(frozenset({etag_of(access_key)}))
    together = threading.Barrier(8)
    results = []

    def write(name):
        try:
            together.wait()
            update_access_key(access_key=access_key, by=principal, if_match=seen, name=name)
            results.append(name)
        except PreconditionFailed:
            results.append(None)
        finally:
            connection.close()

    writers = [threading.Thread(target=write, args=[str(number)]) for number in range(1, 9)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    winners = [name for name in results if name]
    access_key.refresh_from_db()
    assert len(results) == 8
    assert winners == [access_key.name]


@pytest.mark.django_db(transaction=True)
def test_a_lock_outside_of_a_transaction_is_a_fault_of_ours():
    account, principal, _ = open_account("Alice's")
    access_key = create_access_key(account=account, by=principal).access_key

    with pytest.raises(Exception, match="only in a transaction"):
        locked(access_key)
