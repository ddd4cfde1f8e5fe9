"""Accounts, members and API keys, and what every resource that an account owns has in common."""
