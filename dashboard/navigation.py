"""The sections of the dashboard, in the order of the side menu."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Tab:
    """One page of a section that has several: its title and the name of its route."""

    title: str
    page: str


@dataclass(frozen=True)
class Section:
    """A part of the dashboard: its title, the route name of its first page, and its tabs, if it has any."""

    title: str
    icon: str
    page: str
    tabs: tuple[Tab, ...] = ()


OVERVIEW: Final = Section("Overview", "dashboard", "overview")
ACCESS_KEYS: Final = Section("Access keys", "key", "access-keys")
CONFIGURATIONS: Final = Section("Configurations", "tune", "configurations")
PROVIDERS: Final = Section(
    "Providers",
    "hub",
    "providers",
    (
        Tab("Built-in", "providers"),
        Tab("Custom", "custom-providers"),
        Tab("Provider keys", "provider-keys"),
    ),
)
ACTIVITY: Final = Section("Activity", "monitoring", "activity")
CREDITS: Final = Section("Credits", "payments", "credits")
DATA_PLANE: Final = Section("Data plane", "lan", "data-plane")
AUDIT: Final = Section("Audit", "history", "audit")
SETTINGS: Final = Section(
    "Settings",
    "settings",
    "gateway-configuration",
    (
        Tab("Gateway configuration", "gateway-configuration"),
        Tab("API keys", "api-keys"),
        Tab("Members", "members"),
        Tab("Quotas", "quotas"),
    ),
)

SECTIONS: Final = (
    OVERVIEW,
    ACCESS_KEYS,
    CONFIGURATIONS,
    PROVIDERS,
    ACTIVITY,
    CREDITS,
    DATA_PLANE,
    AUDIT,
    SETTINGS,
)
