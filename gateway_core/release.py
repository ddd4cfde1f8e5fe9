"""The version of this release. pyproject.toml reads it from here."""

from typing import Final

RELEASE: Final = "0.1.0"
