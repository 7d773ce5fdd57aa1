"""The mark that index maps share: data sets write it and the objective reads it. Needs no torch."""

UNLABELLED = 255  # a pixel of which nothing is known
