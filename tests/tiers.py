"""Two tiers of one suite, a pytest plugin: `pytest` holds every promise with small numbers, `pytest --full` with full.

A test that counts, repeats or generates takes its number from here, and only such tests differ. A test has the marker
`full` where the small tier holds the same promise by another test; it is not collected there.
"""

from typing import Final

import hypothesis
import pytest

# What hypothesis generates for a test that names no number.
EXAMPLES: Final = 20
FULL_EXAMPLES: Final = 100


class _Tier:
    is_full = False


def is_full() -> bool:
    """Whether this run is `make test-all`."""
    return _Tier.is_full


def number(small: int, *, full: int) -> int:
    """How often: in `make test`, and in `make test-all`."""
    return full if _Tier.is_full else small


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one knob."""
    parser.addoption("--full", action="store_true", help="full numbers, and the tests that only make sense with them")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported: decorators read the numbers."""
    _Tier.is_full = bool(config.getoption("--full"))
    # How long an example takes says how loaded the machine is, and nothing about the code.
    hypothesis.settings.register_profile(
        "gateway",
        max_examples=number(EXAMPLES, full=FULL_EXAMPLES),
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        print_blob=True,
    )
    hypothesis.settings.load_profile("gateway")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what belongs to the full tier, and begin with what takes longest: no worker is left with it at the end.

    Groups come first by themselves; of tests without a group, those on real processes are the longest.
    """
    items.sort(key=lambda item: not {"faults", "contract", "local"} & set(item.path.parts))
    if not is_full():
        left = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)
