"""The engine of every test with recordings."""

import pytest


@pytest.fixture(autouse=True)
def engine(color_engine, monkeypatch):
    """Let the command line load the engine that finds colours, whatever model is asked for."""
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: color_engine)
    return color_engine
