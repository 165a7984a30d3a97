"""Credit measured on trained runs: contexts, candidates and replays drawn, judged, and compared."""
