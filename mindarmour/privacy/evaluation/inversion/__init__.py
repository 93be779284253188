"""Reconstruct what a model, its features or its gradients reveal."""
