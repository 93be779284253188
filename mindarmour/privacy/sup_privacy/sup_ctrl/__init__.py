"""Which weights are suppressed, and when."""
