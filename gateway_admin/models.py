"""When each process behind the scenes last did its work."""

from django.db import models


class Heartbeat(models.Model):
    """The last success of a thread of the relay, or of a periodic task (gateway_admin.heartbeats)."""

    name = models.CharField(max_length=60, primary_key=True)
    # By PostgreSQL's clock.
    beat_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
