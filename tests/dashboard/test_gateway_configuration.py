"""Holds: dashboard.pages.settings

Settings → Gateway configuration.
"""

import pytest
from django.test import Client

from account_settings.models import GatewayConfiguration
from accounts import services
from accounts.models import Membership

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/settings"


def signed_in(account, username="alice", role=Membership.Role.EDITOR):
    user = services.create_user(username=username, email="", password="x" * 20, account=account, role=role)
    client = Client()
    client.force_login(user)
    return client


def typed(**given):
    return {
        "totalTimeout": "120s",
        "perRequestTimeout": "60s",
        "streamTimeout": "30m",
        "maxInputTokens": "",
        "maxOutputTokens": "",
        "metadata": "",
        **given,
    }


def test_what_is_typed_is_what_the_api_then_says(account, api):
    answer = signed_in(account).post(PAGE, typed(totalTimeout="1m30s", maxInputTokens="4000"))

    assert answer.status_code == 302
    told = api.get("gateway-config").json()
    assert (told["totalTimeout"], told["perRequestTimeout"]) == ("1m30s", "60s")
    assert (told["maxInputTokens"], told["maxOutputTokens"]) == (4000, None)


def test_an_emptied_field_puts_the_default_back(account, api):
    client = signed_in(account)
    client.post(PAGE, typed(totalTimeout="5s", maxOutputTokens="10"))

    client.post(PAGE, typed(totalTimeout="", maxOutputTokens=""))

    told = api.get("gateway-config").json()
    assert (told["totalTimeout"], told["maxOutputTokens"]) == ("120s", None)


def test_faults_are_the_apis_at_their_fields(account, api):
    given = {"totalTimeout": "soon", "maxInputTokens": 0, "maxOutputTokens": "many"}

    answer = signed_in(account).post(PAGE, typed(**given))

    details = api.patch("gateway-config", given).json()["details"]
    shown = answer.content.decode()
    assert answer.status_code == 422
    assert set(details) == set(given)
    for name in given:
        assert f'id="field-{name}-fault"' in shown
    assert 'value="soon"' in shown
    assert not GatewayConfiguration.objects.exists()


def test_an_edit_of_what_has_changed_meanwhile_is_told_and_not_written(account, api):
    client = signed_in(account)
    etag = client.get(PAGE).context["form"].etag
    api.patch("gateway-config", {"totalTimeout": "7s"})

    answer = client.post(PAGE, typed(totalTimeout="9s", etag=etag))

    assert answer.status_code == 412
    assert GatewayConfiguration.of(account).total_timeout == "7s"


def test_a_viewer_sees_it_and_writes_nothing(account, other_account):
    GatewayConfiguration.objects.create(account=other_account, total_timeout="77s")
    viewer = signed_in(account, role=Membership.Role.VIEWER)

    assert "77s" not in viewer.get(PAGE).content.decode()
    assert viewer.post(PAGE, typed(totalTimeout="9s")).status_code == 403
    assert not GatewayConfiguration.objects.filter(account=account).exists()
