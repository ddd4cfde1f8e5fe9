"""A headless chromium before the dashboard, served from the test's own database.

Every page that a test opens is watched: a script error, or anything that the content security policy refuses, fails the
test that caused it.
"""

import shutil
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, Page, expect, sync_playwright

from accounts import services
from accounts.models import Account, Membership, User

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PASSWORD: Final = "correct-horse-battery-staple"
DESKTOP: Final = (1440, 900)
PHONE: Final = (390, 844)
# A fence, and no claim of speed: a loaded machine fails no test.
PATIENCE_MILLISECONDS: Final = 30_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One browser, so one worker; without a browser, say so."""
    for item in items:
        if "tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.xdist_group("browser"))
            item.add_marker(pytest.mark.django_db(transaction=True))
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no chromium on this machine: apt-get install chromium"))


@pytest.fixture(autouse=True)
def cheap_hasher(settings: Any) -> None:
    """What a password's hash costs is Django's; a thousand users need not pay it."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser. Playwright's loop runs in this thread, beside which Django would refuse to ask its database."""
    with pytest.MonkeyPatch.context() as environment, sync_playwright() as playwright:
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        expect.set_options(timeout=PATIENCE_MILLISECONDS)
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser, live_server: Any) -> Iterator[Callable[..., Page]]:
    """`page = open_page("/dashboard/", user=alice, dark=True, size=PHONE)`: in a browser profile of its own."""
    contexts, wrong = [], []

    def look_out(message: Any) -> None:
        if "Content Security Policy" in message.text:
            wrong.append(message.text)

    def make(
        path: str = "/dashboard/", *, user: User | None = None, dark: bool = False, size: tuple[int, int] = DESKTOP
    ) -> Page:
        context = browser.new_context(
            base_url=live_server.url,
            color_scheme="dark" if dark else "light",
            viewport={"width": size[0], "height": size[1]},
            reduced_motion="reduce",
            timezone_id="Europe/Vienna",
        )
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        if user is not None:
            client = Client()
            client.force_login(user)
            name = settings.SESSION_COOKIE_NAME
            context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": live_server.url}])
        page = context.new_page()
        page.on("console", look_out)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(path)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def member() -> Callable[..., User]:
    """`alice = member(account, "alice", Membership.Role.VIEWER)`."""

    def make(account: Account, username: str = "alice", role: str = Membership.Role.OWNER) -> User:
        return services.create_user(
            username=username, email=f"{username}@example.com", password=PASSWORD, account=account, role=role
        )

    return make


@pytest.fixture
def assert_accessible() -> Callable[[Page], None]:
    """`assert_accessible(page)`: axe finds nothing that is serious or critical."""
    axe = Axe()

    def check(page: Page) -> None:
        found = axe.run(page).response["violations"]
        serious = [
            (one["id"], one["help"], [node["target"] for node in one["nodes"]][:3])
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]
        assert not serious, (page.url, serious)

    return check
