"""Ways of running the network: an engine takes frames and text embeddings and returns activation maps."""
