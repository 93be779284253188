"""Training with suppressed weights."""
