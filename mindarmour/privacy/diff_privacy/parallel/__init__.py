"""Several ranks: shares of the noise, sums, agreement."""
