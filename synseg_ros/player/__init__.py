"""The player: files, photographs or generated scenes, published as a camera would."""
