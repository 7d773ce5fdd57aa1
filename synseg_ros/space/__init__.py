"""Where a frame's camera is and how far away things are, from messages of any library."""
