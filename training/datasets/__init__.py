"""Provide the images, masks and captions that training and evaluation read."""
