"""The training loop: trainer, checkpoints, log, optimisers. Knows nothing of data sets and of losses."""
