"""Before, while and after an experiment runs: forecast, watch, doctor, SLURM."""
