"""Optional terms of the objective, one file each, all off by default."""
