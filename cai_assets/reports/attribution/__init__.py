"""What each principle of a version does, from the records of the versions derived from it."""
