"""Driving and showing the suppression while a model trains."""
