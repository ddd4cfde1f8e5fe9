"""Holds: dashboard.pages.provider_keys, dashboard.pages.access_keys

Keys in a browser: from an upstream's key to a routed request, a rotation, and what only a typed name can do.
"""

import json
import os
import re
import subprocess

import pytest
from playwright.sync_api import expect

from access_keys.services import create_access_key
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from snapshots import rebuild
from snapshots.redis_client import patient_store
from tests.browser.conftest import PHONE
from tests.gateway_run import stand_in
from tests.workers import worker_process

GOOD = "sk-demo-good-0123456789abcdef"
OLD, NEW = "sk-old-0123456789abcdefghijkl", "sk-new-0123456789abcdefghijkl"


@pytest.fixture
def gateway(settings, redis_url, sealing_private_key, tmp_path):
    """A worker on this test's Redis, before a stand-in for OpenAI."""
    rebuild.rebuild(patient_store())
    with stand_in() as upstream:
        environ = {
            "GATEWAY_MODE": "evaluation",
            "REDIS_URL": redis_url,
            "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
            "SEALING_PRIVATE_KEYS": sealing_private_key,
            "UPSTREAM_BASE_URLS": f"openai={upstream}/v1",
        }
        with worker_process(environ, tmp_path) as worker:
            settings.DATA_PLANE_URL = worker.url
            yield worker


def test_from_an_upstreams_key_to_a_routed_request(account, member, gateway, open_page, assert_accessible):
    page = open_page("/dashboard/providers/keys", user=member(account))
    page.get_by_role("link", name="New provider key").first.click()
    assert_accessible(page)
    page.get_by_label("Provider", exact=False).first.select_option("openai")
    page.get_by_label("Name").fill("team key")
    page.get_by_label("Value").fill(f"{GOOD} with space")
    page.get_by_role("button", name="Store provider key").click()
    expect(page.get_by_text("without white space")).to_be_visible()
    assert page.get_by_label("Value").input_value() == "", "the value is not in the page"
    page.get_by_label("Value").fill(GOOD)
    page.get_by_role("button", name="Store provider key").click()
    expect(page.get_by_text("stored, sealed")).to_be_visible()
    assert_accessible(page)

    page.get_by_role("link", name="Access keys").click()
    page.get_by_role("link", name="New access key").first.click()
    assert_accessible(page)
    page.get_by_label("Name").fill("my app")
    page.get_by_role("button", name="Create access key").click()
    token = page.locator("[data-token]").inner_text()
    page.locator(".snippet", has_text="curl").first.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert_accessible(page)

    command = page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(["sh", "-c", f"{command} -sS --max-time 30"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["choices"], done.stdout

    page.get_by_role("link", name="Overview").click()
    page.go_back()
    expect(page.get_by_role("heading", name="my app")).to_be_visible()
    assert token not in page.content(), "the token was shown once"
    page.reload()
    assert token not in page.content()
    assert account.accesskey_set.count() == 1

    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_text("The access key is disabled. The worker has applied it.")).to_be_visible()
    refused = subprocess.run(["sh", "-c", f"{command} -sS --max-time 30"], capture_output=True, text=True, check=True)
    assert json.loads(refused.stdout)["error"]["type"], refused.stdout


def test_a_rotation_shows_the_old_mask_and_the_new_one(account, principal, member, open_page, assert_accessible):
    key = create_provider_key(account=account, by=principal, provider_id="openai", name="team", value=PlainValue(OLD))
    page = open_page(f"/dashboard/providers/keys/{key.text_id}", user=member(account), dark=True)
    assert_accessible(page)
    page.get_by_role("link", name="Rotate").click()
    assert_accessible(page)
    page.get_by_label("Value").fill(NEW)
    page.get_by_role("button", name="Rotate").click()

    expect(page.get_by_text("sk-old-012***ijkl → sk-new-012***ijkl")).to_be_visible()
    assert NEW not in page.content()
    assert account.providerkey_set.get().id == key.id


@pytest.mark.parametrize("page_of", ["access-keys", "providers/keys", "settings/api-keys"])
def test_a_whole_key_of_any_shape_never_stands_in_an_address(account, principal, member, open_page, page_of):
    value = "plainvalue0123456789abcdef"
    create_provider_key(account=account, by=principal, provider_id="openai", name="found", value=PlainValue(value))
    issued = create_access_key(account=account, by=principal, name="shop")
    page = open_page(f"/dashboard/{page_of}", user=member(account))
    for text in (value, issued.token, "a long name of an app with 1 number", issued.access_key.text_id):
        search = page.get_by_role("searchbox").first
        search.fill(text)
        with page.expect_navigation():
            search.press("Enter")
        assert value[:20] not in page.url
        assert issued.token[:20] not in page.url
        if page_of == "providers/keys" and text == value:
            expect(page.get_by_role("link", name="found").first).to_be_visible()
    assert issued.access_key.text_id in page.url


def test_many_keys_are_found_ticked_and_deleted_by_a_typed_phrase(
    account, principal, member, open_page, assert_accessible
):
    for number in range(4):
        create_access_key(account=account, by=principal, name=f"ci-{number}")
    issued = create_access_key(account=account, by=principal, name="shop")
    page = open_page("/dashboard/access-keys", user=member(account))
    search = page.get_by_placeholder("Name, ID or start of the key")
    search.fill(issued.token)
    search.press("Enter")
    expect(page.get_by_role("link", name="shop")).to_be_visible()
    expect(page).not_to_have_url(re.compile(issued.token[4:]))
    expect(page.get_by_role("link", name="ci-0")).not_to_be_visible()
    page.get_by_placeholder("Name, ID or start of the key").fill("ci-")
    page.get_by_role("button", name="Filter").click()
    delete = page.get_by_role("button", name="Delete")
    expect(delete).to_be_disabled()
    page.get_by_label("Select all access keys on this page").press("Space")
    expect(page.get_by_text("4 selected:")).to_be_visible()
    page.get_by_label("Select ci-0").uncheck()
    assert_accessible(page)
    delete.click()

    button = page.get_by_role("button", name="Delete 3 access keys")
    expect(button).to_be_disabled()
    assert_accessible(page)
    page.get_by_label("Type delete 3 access keys to confirm").fill("delete 3 access keys")
    button.click()
    expect(page.get_by_text("3 access keys are deleted.")).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?q=ci-"))
    assert set(account.accesskey_set.values_list("name", flat=True)) == {"ci-0", "shop"}


def test_a_provider_is_made_on_a_phone_with_a_fault_at_its_field(account, member, open_page, assert_accessible):
    page = open_page("/dashboard/providers/custom/new", user=member(account), size=PHONE)
    page.get_by_label("Name").fill("Our models")
    page.get_by_label("Provider ID").fill("our-models")
    page.get_by_label("Base URL").fill("http://169.254.169.254/v1")
    page.get_by_label("OpenAI: chat completions", exact=True).select_option("only")
    page.get_by_label("Parameters of OpenAI: chat completions").fill("model, messages")
    page.get_by_label("Models").fill("llama3.2")
    page.get_by_label("Header of the key").fill("api-key")
    page.get_by_label("Path of chat-completions").fill("/{model}/chat")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0], "nothing stands out at the side"
    assert_accessible(page)
    page.get_by_role("button", name="Create provider").click()

    assert page.get_by_label("Base URL").get_attribute("aria-invalid") == "true"
    assert_accessible(page)
    page.get_by_label("Base URL").fill("https://models.internal/v1")
    page.get_by_role("button", name="Create provider").click()
    expect(page.get_by_text("The provider is created.")).to_be_visible()
    made = account.provider_set.get()
    assert made.supported_api_surfaces == [
        {
            "format": "openai",
            "surface": "chat-completions",
            "supportedParams": [{"name": "model"}, {"name": "messages"}],
        }
    ]
    assert (made.auth, made.paths) == ({"header": "api-key"}, {"chat-completions": "/{model}/chat"})
