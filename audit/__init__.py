"""Who changed what, when and from where.

A service calls `record` for every object that it wrote or deleted, in its own transaction; the relay chains the events
afterwards (audit.chain).
"""
