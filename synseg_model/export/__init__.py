"""A model as ONNX graphs that run without torch, and the proof that they agree with torch."""
