"""Before spending: what a version would reuse, generate and train, what it would cost, and what causes it."""
