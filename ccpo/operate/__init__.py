"""Before, while and after a study runs: forecast, watch, doctor, SLURM."""
