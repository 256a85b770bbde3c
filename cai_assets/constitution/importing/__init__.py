"""Constitutions in the forms in which they are published, read into this project's own.

``document.py`` reads the file, ``entries.py`` and ``prose.py`` find what may be a principle in it, ``principles.py``
makes a constitution of that. Guarantee: every entry that was read becomes a principle or is reported as left out, and a
text that the file does not have is filled from a named template or not at all.
"""
