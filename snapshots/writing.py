"""Write an object that the data plane uses: as `audit.writing`, and record the change in the outbox."""

from typing import Final

from audit.writing import Writing
from snapshots import outbox

published: Final = Writing(outbox.record)
