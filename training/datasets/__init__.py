"""Provide the pictures, masks and captions that training and evaluation read."""
