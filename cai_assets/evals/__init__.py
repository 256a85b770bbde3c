"""Measures of behaviour, each with a count and an interval."""
