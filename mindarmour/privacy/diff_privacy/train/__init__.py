"""The documented `train` package."""
