"""Texts: CLIP's tokens, embeddings and their cache, nearest names. Needs no torch."""
