"""Holds: dashboard.pages.configurations, dashboard.pages.configuration_editor

Configurations in the browser: built by mouse and keyboard, refused at the field, tested, told apart and restored.
"""

import json
import re

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Page, expect

from access_keys.services import create_access_key
from configurations.models import Configuration
from configurations.services import create_configuration, update_configuration
from provider_keys.models import ProviderKey
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from tests.browser.conftest import PHONE

LIST = "/dashboard/configurations"
# Were it ever taken for markup, the policy would refuse what it does, and `open_page` fail the test.
HOSTILE_NAME = "support-bot <img src=x onerror=alert(1)></script>"
VALUE = "sk-browser-0123456789abcdefghijklmnop"


@pytest.fixture
def store_key(account, principal):
    def store(provider, name, value=VALUE):
        return create_provider_key(
            account=account, by=principal, provider_id=provider, name=name, value=PlainValue(value)
        )

    return store


def allow(page: Page, dimension: str, typed: str, picked: str) -> None:
    """Choose "only these" and pick one from the suggestions."""
    scope = page.locator(f"[data-dimension={dimension}]")
    scope.get_by_label("Only these").check()
    scope.locator("[role=combobox]").fill(typed)
    scope.get_by_role("option", name=re.compile(re.escape(picked))).first.click()


def add_rule(page: Page, typed: str, picked: str):
    """A rule for what is picked, without a step."""
    rules = page.locator("[data-item=rule]")
    rule = rules.nth(rules.count())
    page.get_by_role("button", name="Add a rule").click()
    rule.locator("[data-subject] input").fill(typed)
    rule.get_by_role("option", name=picked).first.click()
    return rule


def add_own_keys(rule, *names):
    """A step that uses these stored keys."""
    steps = rule.locator("[data-item=step]")
    step = steps.nth(steps.count())
    rule.get_by_role("button", name="Add a step").click()
    step.get_by_label("Your own keys").check()
    for name in names:
        step.locator("[data-key-choices] input").fill(name)
        step.get_by_role("option", name=name).click()
    return step


def save(page: Page) -> None:
    page.locator(".save-bar button[type=submit]").click()


def test_a_configuration_with_two_rules_and_failover_is_built_by_mouse_and_keyboard(
    account, api, member, open_page, store_key, assert_accessible
):
    main, backup, groq = store_key("openai", "main"), store_key("openai", "backup"), store_key("groq", "team")
    page = open_page(f"{LIST}/new", user=member(account))

    page.get_by_label("Name *").fill("Production chat")
    allow(page, "providers", "openai", "OpenAI")
    allow(page, "providers", "groq", "Groq")
    allow(page, "models", "openai:gpt-4o", "openai:gpt-4o")
    openai = add_rule(page, "openai", "OpenAI")
    openai.get_by_role("button", name="Add a step").click()
    openai.get_by_label("Managed inference").check()
    own = add_own_keys(openai, "main", "backup")
    add_own_keys(add_rule(page, "groq", "Groq"), "team")

    # The step with keys goes before managed inference, by keyboard; the focus stays, and the move is told.
    up = own.get_by_role("button", name="Move this step up")
    up.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#announcements")).to_have_text("Step moved to place 1 of 2.")
    # What cannot move further up can only move down.
    first = openai.locator("[data-item=step]").first
    expect(first.get_by_role("button", name="Move this step down")).to_be_focused()
    # The second key goes before the first, by its handle.
    handles = openai.locator("[data-item=key] [data-handle]")
    handles.nth(1).hover()
    page.mouse.down()
    box = handles.nth(0).bounding_box()
    page.mouse.move(box["x"] + 4, box["y"] - 4, steps=6)
    page.mouse.up()
    shown = json.loads(page.locator("#wire").inner_text())
    assert_accessible(page)
    save(page)

    expect(page.get_by_text("The configuration is created.")).to_be_visible()
    stored = api.get("access-key-configurations").json()["aiGatewayAccessKeyConfigurations"][0]
    keys = {"type": "user", "keys": [{"id": backup.text_id}, {"id": main.text_id}]}
    assert shown == {
        "name": "Production chat",
        "access": {"providers": {"allow": ["openai", "groq"]}, "models": {"allow": ["openai:gpt-4o"]}},
        "router": {
            "rules": [
                {"provider": "openai", "steps": [keys, {"type": "ngrok"}]},
                {"provider": "groq", "steps": [{"type": "user", "keys": [{"id": groq.text_id}]}]},
            ]
        },
    }
    assert stored["access"] == shown["access"]
    assert [[key["name"] for key in step.get("keys", [])] for step in stored["router"]["rules"][0]["steps"]] == [
        ["backup", "main"],
        [],
    ]


def test_a_fault_stands_at_its_field_and_nothing_typed_is_lost(
    account, member, open_page, store_key, assert_accessible
):
    page = open_page(f"{LIST}/new", user=member(account), size=PHONE)
    allow(page, "models", "gpt-4o-of-nobody", "gpt-4o-of-nobody")
    rule = add_rule(page, "groq", "Groq")
    rule.get_by_role("button", name="Add a step").click()
    rule.get_by_role("button", name="New key").click()
    rule.get_by_label("Name of the new key").fill("team")
    rule.get_by_label("Value of the new key").fill("with space")

    save(page)

    summary = page.locator("#faults")
    expect(summary).to_be_focused()
    expect(summary.get_by_role("link")).to_have_text(
        [re.compile("^Name: "), re.compile("^Allowed model 1: "), re.compile("^Rule 1, step 1, key 1, value: ")]
    )
    value = rule.get_by_label("Value of the new key")
    expect(value).to_have_attribute("aria-invalid", "true")
    expect(value.locator("xpath=..").locator(".fault")).to_be_visible()
    expect(page.locator("[data-dimension=models] .fault")).to_contain_text("A model is named with its provider")
    summary.get_by_role("link", name=re.compile("^Name")).click()
    expect(page.get_by_label("Name *")).to_be_focused()
    assert_accessible(page)
    expect(value).to_have_value("with space")
    assert "with space" not in page.locator("#wire").inner_text() + page.locator("#curl").inner_text()
    assert Configuration.objects.count() == ProviderKey.objects.count() == 0

    page.get_by_label("Name *").fill("chat")
    value.fill(VALUE)
    page.get_by_role("button", name="Remove gpt-4o-of-nobody").click()
    # What stands in a picker without having been picked would be lost in silence.
    typed = page.locator("[data-dimension=models] [role=combobox]")
    typed.fill("openai:gpt")
    save(page)
    expect(page.locator("[data-dimension=models] .fault")).to_contain_text("“openai:gpt” is typed here but not added")
    typed.fill("")
    # "Only these" with nothing listed would block everything on the wire; it has to be meant.
    save(page)
    expect(page.locator("[data-dimension=models] .fault")).to_contain_text("Nothing is listed")
    page.locator("[data-dimension=models]").get_by_label("Nothing allowed").check()
    expect(page.locator("[data-blocked]")).to_be_visible()
    save(page)

    expect(page.get_by_text("Nothing: no model is allowed, so every request is refused.")).to_be_visible()
    stored = Configuration.objects.get()
    assert stored.access == {"models": {"allow": []}}
    assert ProviderKey.objects.get().name == "team"
    assert VALUE not in page.content()


def test_what_is_removed_comes_back_by_undo(account, member, open_page, store_key):
    store_key("groq", "team")
    page = open_page(f"{LIST}/new", user=member(account))
    add_own_keys(add_rule(page, "groq", "Groq"), "team")
    before = page.locator("#wire").inner_text()

    page.get_by_role("button", name="Remove this rule").click()
    assert "groq" not in page.locator("#wire").inner_text()
    page.get_by_role("button", name="Undo").click()

    assert page.locator("#wire").inner_text() == before


def test_the_test_panel_shows_the_plan_of_what_is_not_saved_and_a_denial(account, member, open_page, store_key):
    store_key("openai", "main", "sk-first-0123456789abcdefghijklmnop")
    store_key("openai", "backup", "sk-second-0123456789abcdefghijklmnop")
    page = open_page(f"{LIST}/new", user=member(account))
    allow(page, "models", "openai:gpt-4o", "openai:gpt-4o")
    add_own_keys(add_rule(page, "openai", "OpenAI"), "main", "backup")
    panel = page.locator("#test")

    panel.get_by_role("combobox", name="Model").fill("gpt-4o")
    panel.get_by_label("Fallbacks").press("Enter")
    attempts = panel.locator(".attempts > li")
    expect(attempts).to_have_count(2)
    expect(attempts.nth(0)).to_contain_text("sk-first-0***mnop")
    expect(attempts.nth(0)).to_contain_text("rule 1, step 1")
    expect(attempts.nth(1)).to_contain_text("only if those before it fail")
    panel.get_by_role("button", name="And if it fails?").click()
    expect(attempts.nth(1)).to_contain_text("answers")

    panel.get_by_role("combobox", name="Model").fill("groq:x")
    panel.get_by_role("combobox", name="Model").press("Escape")
    panel.get_by_role("button", name="Test", exact=True).click()
    expect(panel).to_contain_text("Refused.")
    expect(panel).to_contain_text("Allow the model groq:x.")
    assert Configuration.objects.count() == 0


@pytest.fixture
def used(account, principal):
    """A configuration that an access key is under."""
    configuration = create_configuration(
        account=account,
        by=principal,
        name="chat",
        metadata=HOSTILE_NAME,
        access={"providers": {"allow": ["openai", "groq"]}},
    )
    create_access_key(account=account, by=principal, name=HOSTILE_NAME, configuration_id=configuration.id)
    return configuration


def test_a_narrowing_is_confirmed_with_who_it_hits(account, member, open_page, used):
    page = open_page(f"{LIST}/{used.text_id}/edit", user=member(account))
    page.get_by_role("button", name="Remove Groq").click()

    save(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Groq is no longer allowed.")
    expect(dialog).to_contain_text(f"{HOSTILE_NAME}, never used")
    dialog.get_by_role("button", name="Go on editing").click()
    used.refresh_from_db()
    assert used.access == {"providers": {"allow": ["openai", "groq"]}}

    save(page)
    dialog.get_by_role("button", name="Save it all the same").click()
    expect(page.get_by_text("The configuration is saved.")).to_be_visible()
    used.refresh_from_db()
    assert used.access == {"providers": {"allow": ["openai"]}}


def test_a_change_that_somebody_else_made_meanwhile_is_told_and_not_overwritten(
    account, principal, member, open_page, used
):
    page = open_page(f"{LIST}/{used.text_id}/edit", user=member(account))
    update_configuration(configuration=used, by=principal, name="renamed meanwhile")
    page.get_by_label("Description").fill("mine")

    save(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("API key first saved this configuration")
    expect(dialog).to_contain_text("name: ‘chat’ → ‘renamed meanwhile’")
    dialog.get_by_role("button", name="Go on editing").click()
    used.refresh_from_db()
    assert used.description is None

    save(page)
    dialog.get_by_role("button", name="Save mine over theirs").click()
    expect(page.get_by_text("The configuration is saved.")).to_be_visible()
    used.refresh_from_db()
    assert (used.name, used.description) == ("renamed meanwhile", "mine")


def test_a_revision_is_restored_with_one_click_after_its_difference_was_shown(
    account, principal, member, open_page, used, assert_accessible
):
    update_configuration(configuration=used, by=principal, access={"models": {"allow": []}})
    page = open_page(f"{LIST}/{used.text_id}", user=member(account))
    expect(page.get_by_text("Nothing: no model is allowed")).to_be_visible()

    page.get_by_role("link", name="Restore revision 1").click()
    expect(page.get_by_text("models: nothing allowed → everything allowed")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("button", name="Restore revision 1").click()

    expect(page.get_by_text("The configuration is again what it was in revision 1.")).to_be_visible()
    expect(page.get_by_text("Every model of OpenAI and Groq.")).to_be_visible()
    expect(page.locator(".revisions > li")).to_have_count(3)


def test_who_is_signed_out_meanwhile_loses_nothing_and_saves_after_signing_in_again(account, member, open_page):
    alice = member(account)
    page = open_page(f"{LIST}/new", user=alice)
    page.get_by_label("Name *").fill("chat")
    session = next(one for one in page.context.cookies() if one["name"] == settings.SESSION_COOKIE_NAME)
    page.context.clear_cookies(name=session["name"])

    save(page)
    expect(page.locator("#faults")).to_contain_text("You are signed out.")
    expect(page.get_by_label("Name *")).to_have_value("chat")
    assert Configuration.objects.count() == 0

    # Signing in anew gives the browser a new session and another token against forged requests.
    again = Client()
    again.force_login(alice)
    page.context.clear_cookies(name=settings.CSRF_COOKIE_NAME)
    page.context.add_cookies([{**session, "value": again.cookies[session["name"]].value}])
    save(page)
    expect(page.get_by_text("The configuration is created.")).to_be_visible()


def test_a_browser_without_scripts_is_told_so_and_shown_no_form(account, member, open_page):
    alice = member(account)
    with_scripts = open_page(f"{LIST}/new", user=alice)
    cookies = with_scripts.context.cookies()
    context = with_scripts.context.browser.new_context(java_script_enabled=False)
    context.add_cookies(cookies)

    page = context.new_page()
    page.goto(with_scripts.url)

    expect(page.get_by_text("This form needs scripts")).to_be_visible()
    expect(page.locator("#configuration")).to_be_hidden()
    context.close()
