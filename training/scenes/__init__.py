"""Generated scenes with exact masks and captions: a development tool that a robot does without."""
