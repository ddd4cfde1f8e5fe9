"""A write of what the data plane sees: `audit.writing`, with the row's change in the outbox."""

from typing import Final

from audit.writing import Writing
from snapshots import outbox

published: Final = Writing(outbox.record)
