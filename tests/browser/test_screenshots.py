"""Holds: dashboard.pages

Every page with a realistic account, looked at in both themes and on a phone; `make screenshots` keeps what it sees.

The walk itself is the test: no script error, nothing that the content security policy refuses, nothing serious for axe.
In the small tier two pages are looked at in dark, and no picture is taken.
"""

import os
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page, ViewportSize

from access_keys.models import AccessKey
from accounts.models import Account
from accounts.services import create_account
from configurations.models import Configuration
from provider_keys.models import ProviderKey
from providers.models import Provider
from tests import tiers
from tests.browser.conftest import DESKTOP, PHONE
from tests.showcase import showcase
from usage.models import Event

# Where pictures are kept: what `make screenshots` sets.
KEPT: Final = os.environ.get("SCREENSHOTS", "")
# In docs/screenshots, all together.
MOST_BYTES: Final = 3 * 1024 * 1024
# Shown in dark and on a phone too.
_SHOWN_IN_ALL: Final = frozenset({"overview", "configuration-editor"})


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where this run's pictures go."""
    return Path(KEPT) if KEPT else tmp_path


def pages_of(account: Account) -> dict[str, str]:
    """The pages by the names of their pictures."""
    access_key = AccessKey.objects.get(account=account, name="support-copilot")
    configuration = Configuration.objects.get(account=account, name="Production")
    edited = Configuration.objects.get(account=account, name="Small models only")
    provider_key = ProviderKey.objects.get(account=account, name="OpenAI production")
    retried = Event.objects.filter(account_id=account.id, attempt=2).order_by("-event_time").first()
    assert retried is not None
    return {
        "overview": "",
        "access-keys": "access-keys",
        "access-key": f"access-keys/{access_key.text_id}",
        "access-key-new": "access-keys/new",
        "configurations": "configurations",
        "configuration": f"configurations/{configuration.text_id}",
        "configuration-revisions": f"configurations/{edited.text_id}/revisions",
        "configuration-editor": f"configurations/{configuration.text_id}/edit",
        "providers": "providers",
        "built-in-provider": "providers/built-in/anthropic",
        "custom-providers": "providers/custom",
        "custom-provider": f"providers/custom/{Provider.objects.get(account=account).text_id}",
        "provider-keys": "providers/keys",
        "provider-key": f"providers/keys/{provider_key.text_id}",
        "provider-key-rotate": f"providers/keys/{provider_key.text_id}/rotate",
        "activity": "activity?range=7d",
        "request": f"activity/{retried.text_id}",
        "credits": "credits",
        "data-plane": "data-plane",
        "audit": "audit",
        "settings": "settings",
        "api-keys": "settings/api-keys",
        "members": "settings/members",
    }


def _size(size: tuple[int, int]) -> ViewportSize:
    return {"width": size[0], "height": size[1]}


def test_every_page_is_shown_whole_and_accessible_in_both_themes(
    open_page: Any, assert_accessible: Any, shots: Path
) -> None:
    account = create_account(name="Northwind Labs")
    owner = showcase(account)
    shots.mkdir(parents=True, exist_ok=True)
    pages = pages_of(account)
    page = open_page(user=owner)

    def keep(page: Page, name: str) -> None:
        if tiers.is_full():
            page.screenshot(path=shots / name)

    for name, path in pages.items():
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(_size(DESKTOP))
        answer = page.goto(f"/dashboard/{path}")
        assert answer.status == 200, path
        assert_accessible(page)
        keep(page, f"{name}.png")
        if tiers.is_full() or name in _SHOWN_IN_ALL:
            page.emulate_media(color_scheme="dark")
            assert_accessible(page)
        if name in _SHOWN_IN_ALL:
            keep(page, f"{name}-dark.png")
        page.set_viewport_size(_size(PHONE))
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{path} is too wide"
        if name in _SHOWN_IN_ALL:
            keep(page, f"{name}-phone.png")

    assert sum(one.stat().st_size for one in shots.glob("*.png")) < MOST_BYTES
