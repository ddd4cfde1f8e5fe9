"""The soak: a whole deployment under writes, callers and faults at once. `python -m benchmarks.soak --help`."""
