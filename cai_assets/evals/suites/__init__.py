"""Suites: data plus a scorer. What a policy is asked, how, and what is measured in its answers."""
