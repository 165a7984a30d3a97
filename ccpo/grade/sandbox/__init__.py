"""Programs that models write, run where they can reach nothing."""
