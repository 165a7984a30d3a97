"""Policies to scores to statistics."""
