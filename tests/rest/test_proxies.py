"""Holds: rest.uris

The base that the client called, and whom we believe about it.
"""

import pytest
from django.urls import set_script_prefix

GOOD = {
    "x_forwarded_proto": "https",
    "x_forwarded_host": "gateway.example.com",
    "x_forwarded_prefix": "/admin/api",
}


@pytest.fixture
def behind_proxy(settings):
    settings.ALLOWED_HOSTS = ["testserver", "gateway.example.com"]
    settings.TRUSTED_PROXIES = ["10.0.0.0/8", "127.0.0.1"]
    yield
    # A server's handler puts the prefix back for each request; Django's test client does not.
    set_script_prefix("/")


def uri(api, **headers):
    return api.get("access-keys?limit=5", **headers).json()["uri"]


def test_without_a_trusted_proxy_its_headers_are_not_believed(api, settings):
    settings.ALLOWED_HOSTS = ["*"]

    assert uri(api, **GOOD) == "http://testserver/access-keys?limit=5"


def test_an_address_outside_of_the_trusted_networks_is_not_believed(api, settings):
    settings.ALLOWED_HOSTS = ["*"]
    settings.TRUSTED_PROXIES = ["10.0.0.0/8", "2001:db8::/32"]

    assert uri(api, **GOOD) == "http://testserver/access-keys?limit=5"


@pytest.mark.usefixtures("behind_proxy")
def test_a_trusted_proxy_tells_scheme_host_and_prefix(api):
    assert uri(api, **GOOD) == "https://gateway.example.com/admin/api/access-keys?limit=5"


@pytest.mark.usefixtures("behind_proxy")
def test_every_uri_of_an_answer_stands_on_that_base(api):
    created = api.post("access-keys", {}, **GOOD)
    body = created.json()
    api.post("access-keys", {})
    listed = api.get("access-keys?limit=1", **GOOD).json()

    base = "https://gateway.example.com/admin/api/"
    assert created["Location"] == body["uri"] == f"{base}access-keys/{body['id']}"
    assert body["createdBy"]["uri"] == f"{base}api-keys/{body['createdBy']['id']}"
    assert listed["nextPageUri"].startswith(f"{base}access-keys?limit=1&beforeId=")


@pytest.mark.usefixtures("behind_proxy")
def test_of_several_values_the_one_counts_that_the_trusted_proxy_added(api):
    assert uri(api, x_forwarded_host="evil.example, gateway.example.com", x_forwarded_proto="gopher, https") == (
        "https://gateway.example.com/access-keys?limit=5"
    )


@pytest.mark.usefixtures("behind_proxy")
def test_a_host_that_is_not_ours_is_refused_from_a_proxy_too(api, assert_refused):
    assert_refused(api.get("access-keys", x_forwarded_host="evil.example"), 400, "request_malformed")


@pytest.mark.usefixtures("behind_proxy")
@pytest.mark.parametrize("prefix", ["//evil.example", "/a b", "no-slash", "/a?b", "/a\\b", "/", ""])
def test_a_prefix_that_is_no_path_is_ignored(api, prefix):
    assert uri(api, x_forwarded_prefix=prefix) == "http://testserver/access-keys?limit=5"


@pytest.mark.usefixtures("behind_proxy")
@pytest.mark.parametrize("scheme", ["javascript", "", "httpss"])
def test_a_scheme_other_than_http_and_https_is_ignored(api, scheme):
    assert uri(api, x_forwarded_proto=scheme) == "http://testserver/access-keys?limit=5"
