"""Measures of behavior, each with a count and an interval."""
