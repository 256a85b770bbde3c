"""The studio: pages of the product's own, in the same guarded web server as Dagster's.

``app.py`` has the addresses; a file for each page: ``index``, ``constitution`` (with ``draft``), ``versions``,
``attribution``, ``chains`` (with ``steps``), ``traces``, ``arena`` (with ``answers``, ``live`` and ``votes``),
``red_team``, ``reports``. Guarantees: it has no state of its own and reads
the data root anew for each page; every change goes through the functions that the command line calls, is a POST, and
is refused where the server is read-only; nothing is sent anywhere.
"""
