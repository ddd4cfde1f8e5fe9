"""What maintainers run: the check of a release."""
