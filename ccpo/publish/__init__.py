"""From knowledge to pages."""
