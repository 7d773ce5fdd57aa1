"""Architectures of the small encoders that this project trains itself."""
