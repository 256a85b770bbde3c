"""Who came from whom: rows, records and principles, walked in both directions and verified."""
