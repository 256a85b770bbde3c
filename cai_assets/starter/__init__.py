"""A project of one's own: what ``cai init`` writes, and what ``cai upgrade`` changes of it after a new version.

``files/`` holds the files as they are written; ``dot-`` begins the names of hidden ones. ``deploy/`` holds those for
other machines, which are written if they are asked for.
"""
