"""The segmentation node: camera topics and a vocabulary in, masks out."""
