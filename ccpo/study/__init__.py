"""From runs to knowledge."""
