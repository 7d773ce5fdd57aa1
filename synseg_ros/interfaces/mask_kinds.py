"""How masks can be encoded; needs no library."""

MONO8, PNG, RLE = MASK_ENCODINGS = ("mono8", "png", "rle")
