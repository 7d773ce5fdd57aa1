"""The network run by TensorRT on an NVIDIA GPU: build engines, keep them, run them. Needs no torch."""
