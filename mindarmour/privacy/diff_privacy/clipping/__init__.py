"""Clipping: a factor for each unit, and the sensitivity that results."""
