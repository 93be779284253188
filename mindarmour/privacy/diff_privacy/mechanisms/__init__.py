"""Noise and clipping mechanisms."""
