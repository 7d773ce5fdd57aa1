"""Photographs in the public domain with hand-drawn masks, for the demo: LICENSES.md says where they are from."""
