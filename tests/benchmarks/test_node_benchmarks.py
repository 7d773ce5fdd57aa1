"""The node's benchmarks measure what they say, and the short soak holds its promise."""

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from benchmarks.node import NodeBenchmarkConfig, run
from benchmarks.soak import SoakConfig, growth, plot, soak

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("one_demo_at_a_time")]  # as large as a demo

SMALL = {"width": 64, "height": 48, "rate": 10.0}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """Take back the ROS domain that a benchmark chooses."""
    from synseg_ros.demo.processes import private_domain

    for name in private_domain():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "0")  # so that what the benchmark sets is undone


def test_growth_is_that_of_the_end_over_that_after_the_warmup():
    times = np.arange(100.0)
    memory = np.where(times < 20, 10 * times, 200.0)
    assert growth(times, memory, 20.0) == 0.0
    assert growth(times, memory + np.where(times > 80, 20, 0), 20.0) == pytest.approx(0.1)


@pytest.mark.slow
def test_every_part_of_the_benchmark_has_numbers():
    short = {**SMALL, "rate": 20.0, "seconds": 2.0, "warmup": 0.5}
    results = run(NodeBenchmarkConfig(slow=150.0, engine="null", labels=5, **short))
    latency = results["latency"]
    assert all(latency[part]["count"] >= 5 and latency[part]["p50"] > 0 for part in ("echo node", "node"))
    assert latency["node adds"]["p50"] == pytest.approx(latency["node"]["p50"] - latency["bare calls"]["p50"], abs=0.02)
    ratio = latency["node adds"]["p50"] / latency["echo node"]["p50"]
    assert latency["node to echo node"]["p50"] == pytest.approx(ratio, abs=0.01)
    assert set(results["cameras"]["rates"]) == {"front", "left", "rear", "right"}
    assert 0 < results["cameras"]["slowest to fastest"] <= 1
    assert 0 < results["age"]["age"]["p50"] < 150
    assert results["vocabulary"]["usual gap"]["count"] >= 5 and results["vocabulary"]["longest gap"] > 0


@pytest.mark.slow
def test_memory_does_not_grow_over_sixty_changes_of_the_vocabulary(tmp_path):
    results = soak(SoakConfig(seconds=20.0, warmup=0.4, every=0.25, **{**SMALL, "rate": 30.0}))
    assert results["vocabularies"] >= 60
    assert results["frames"] >= 100
    assert results["growth"] < 0.05
    plot(results, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").stat().st_size > 5000
