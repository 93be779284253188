"""Noise: drawn for a given sensitivity, and the event that describes it."""
