"""The documented `optimizer` package."""
