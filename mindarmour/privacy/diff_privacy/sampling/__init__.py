"""Who takes part in a step, and the amplification that is claimed for it."""
