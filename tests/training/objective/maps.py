"""Maps of a few names, for the tests of terms."""

import math

B, K, P = 2, 4, 30


def sigmoid(x):
    return 1 / (1 + math.exp(-x))
