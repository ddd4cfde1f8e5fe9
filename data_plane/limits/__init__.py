"""Holds requests to the limits of their access key and account, together with all other workers."""
