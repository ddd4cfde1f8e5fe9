"""Measurements of speed, and the soak; never a part of the tests."""
