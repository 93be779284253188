"""Engines that turn one batch into the clipped sum of its units' gradients."""
