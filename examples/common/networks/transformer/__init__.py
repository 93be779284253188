"""Transformers in plain layers."""
