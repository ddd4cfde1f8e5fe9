"""Limits: what an access key or an account may use of money, tokens and requests, over all workers.

- `limit`: the form of a limit in a snapshot, and what it counts;
- `windows`: when a window begins and ends;
- `counting`: the count of one limit in one window, and how workers share what is left of it;
- `rates`: requests a minute;
- `names`: where counts lie in Redis.

`scripts` holds the same rules for Redis. A test compares both over random histories.

Source: docs/decisions/0120-limits.md.
"""
