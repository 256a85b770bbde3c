"""The suites as tasks of Inspect (inspect-ai, optional): its runner, its logs, its viewer, on any checkpoint.

``provider.py`` answers through the project's own engines and row store, so a row that ``suite_results`` already has is
read, not generated again; ``tasks.py`` asks what the suites ask; ``scorers.py`` measures as they do. Nothing else in
the project imports this package or inspect_ai.
"""
