"""What a person reads: cards, charts, comparisons."""
