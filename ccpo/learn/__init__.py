"""From scored trees to better policies."""
