"""Worlds small enough to sum, in which methods are measured against truth."""
