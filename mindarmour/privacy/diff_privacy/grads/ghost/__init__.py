"""The ghost engine: norms and clipped sums from one backward pass."""
