"""Data sets of photographs with masks, captions or names: one reader per file, one type of sample for all."""
