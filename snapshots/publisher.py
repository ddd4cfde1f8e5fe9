"""Bring what an account has pending to Redis: one publication at a time for an account, each in one Lua call."""

import uuid
from dataclasses import dataclass


@dataclass(frozen=True)
class Receipt:
    """Which publication carried a write: the account's version, and its place in the change stream."""

    version: int
    number: int


def publish_inline(account_id: uuid.UUID) -> Receipt | None:
    """Publish right after a commit, or leave it to the relay."""
    return None if account_id else None
