"""Benchmarks of the training engines. See README.md."""
