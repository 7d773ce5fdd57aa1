"""What `training.ablate` compares, measures and draws."""
