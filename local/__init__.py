"""Everything on one machine: `make run`, `make demo`, `make manage`, and the embedded PostgreSQL and Redis."""
