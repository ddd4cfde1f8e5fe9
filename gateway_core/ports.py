"""A port: what a room needs from a room above it, which it must not import.

The room below declares the port with the type of what it needs. The room above provides it in its AppConfig's `ready`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class PortEmpty(LookupError):
    """A port was used before a room provided it."""


class Port(Generic[T]):
    """The place of one implementation."""

    def __init__(self, name: str) -> None:
        """
        Args:
            name: what is needed, for the error's text.
        """
        self._name = name
        self._implementations: list[T] = []

    def provide(self, implementation: T) -> None:
        """Set the implementation; a second call replaces the first."""
        self._implementations[:] = [implementation]

    def get(self) -> T:
        """The implementation.

        Raises:
            PortEmpty: no room has provided it.
        """
        if not self._implementations:
            raise PortEmpty(f"No room has provided {self._name}; an AppConfig's `ready` has to.")
        return self._implementations[0]

    @contextmanager
    def replaced(self, implementation: T) -> Iterator[None]:
        """Use another implementation for the length of a test."""
        before = self._implementations[:]
        self.provide(implementation)
        try:
            yield
        finally:
            self._implementations[:] = before
