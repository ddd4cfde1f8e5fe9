"""Bring committed writes to every worker: outbox, publisher, upkeep, rebuild, and waiting for workers."""
