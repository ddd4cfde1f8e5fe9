"""From a commit to every worker: outbox, publisher, relay, rebuild, and waiting for workers."""
