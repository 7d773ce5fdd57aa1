"""The parameters of the node and of the player: one table each, and what is made of it."""
