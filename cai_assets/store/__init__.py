"""Bytes, keys and files: the row store, tables, records and checkpoints, and where each lies."""
