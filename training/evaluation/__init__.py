"""Measuring a model: protocols, data sets, windows, refinement, reports and figures."""
