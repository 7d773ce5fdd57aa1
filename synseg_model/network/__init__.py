"""The network of SynSeg: image encoders, text towers, FiLM and the decoder. Needs torch."""

from synseg_model.network.synseg import SynSeg

__all__ = ["SynSeg"]
