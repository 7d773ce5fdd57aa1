"""Images and videos in, result files and drawings out."""
