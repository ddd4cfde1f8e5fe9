"""What the worker holds in memory: tokens, accounts and the catalog, kept current from Redis and from a file."""
