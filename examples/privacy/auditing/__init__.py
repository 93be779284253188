"""Audits of training, white box."""
