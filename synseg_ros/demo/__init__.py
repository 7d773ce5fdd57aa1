"""The whole path at work: the player, the node and a listener, with results as numbers and images."""
