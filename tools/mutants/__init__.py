"""Planted bugs, kept as data, and what runs the tests against them."""
