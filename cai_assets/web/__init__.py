"""Dagster's web pages behind a guard: what ``cai ui`` starts.

``serve.py`` starts the web server, the daemon and the code servers, ``guard.py`` is the ASGI application in front of
Dagster's, ``rules.py`` what it refuses, ``addresses.py`` and ``password.py`` what it compares a request with.
"""
