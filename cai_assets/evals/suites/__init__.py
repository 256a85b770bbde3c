"""Suites: data plus a scorer. What a policy is asked, how it is asked, and what of its answers is measured."""
