"""Where are runs carried out? On this machine, on SLURM, on Ray."""
