"""Texts for users about objects of the other rooms: scopes, plans, health, authors, times."""
