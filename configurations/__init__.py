"""Configurations: access scopes, routing rules, their revisions, and explaining what they decide."""
