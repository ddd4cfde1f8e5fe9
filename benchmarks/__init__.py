"""What is measured, and never in a timed test."""
