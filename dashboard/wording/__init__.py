"""Facts of the other rooms in words for people: scopes, plans, health, authors, times."""
