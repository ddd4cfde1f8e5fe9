"""Which release this is: the one home of the version. pyproject.toml reads it from here."""

from typing import Final

RELEASE: Final = "0.1.0"
