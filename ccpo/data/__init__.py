"""Raw files to task tables: the data door, and the gate that keeps test items out of training."""
