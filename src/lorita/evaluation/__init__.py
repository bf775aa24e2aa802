"""What came out: loss on held-out rows, and the checks that a run must pass."""
