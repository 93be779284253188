"""The documented `monitor` package."""
