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


class Profiles:
    """Browser profiles with a page each. They are emptied after each test and used by the next one.

    A new profile costs a third of a second of processor time: its renderer starts, and reads and compiles all scripts.
    """

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self._free: list[Page] = []
        self._taken: list[Page] = []

    def take(self) -> Page:
        """A page in an empty profile, which no other page of the test shares."""
        page = self._free.pop() if self._free else self._make()
        self._taken.append(page)
        return page

    def empty(self) -> None:
        """Take back what a test has used: its cookies, its storage and all pages but the first go."""
        for page in self._taken:
            for other in page.context.pages:
                if other is not page:
                    other.close()
            page.goto("/healthz")
            page.evaluate("localStorage.clear(); sessionStorage.clear()")
            page.context.clear_cookies()
        self._free += self._taken
        self._taken = []

    def _make(self) -> Page:
        context = self._browser.new_context(base_url=self._url, timezone_id="Europe/Vienna")
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        return context.new_page()


@pytest.fixture(scope="package")
def profiles(browser: Browser, live_server: Any) -> Profiles:
    """The profiles of `browser`."""
    return Profiles(browser, live_server.url)


@pytest.fixture
def open_page(profiles: Profiles, live_server: Any) -> Iterator[Callable[..., Page]]:
    """`page = open_page("/dashboard/", user=alice, dark=True, size=PHONE)`: a profile for each call."""
    wrong: list[str] = []
    pages: list[Page] = []

    def look_out(message: Any) -> None:
        if "Content Security Policy" in message.text:
            wrong.append(message.text)

    def note(error: Any) -> None:
        wrong.append(str(error))

    def make(
        path: str = "/dashboard/", *, user: User | None = None, dark: bool = False, size: tuple[int, int] = DESKTOP
    ) -> Page:
        page = profiles.take()
        pages.append(page)
        if user is not None:
            client = Client()
            client.force_login(user)
            name = settings.SESSION_COOKIE_NAME
            page.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": live_server.url}])
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        page.on("console", look_out)
        page.on("pageerror", note)
        page.goto(path)
        return page

    yield make
    for page in pages:
        page.remove_listener("console", look_out)
        page.remove_listener("pageerror", note)
    profiles.empty()
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
