"""A bench to wait on, an engine and a model without training."""

import dataclasses
import os
import time

import pytest

from synseg_model.engines.null import NullEngine
from synseg_ros.demo.dead_ports import ports_of, remove_dead_ports

PATIENCE = 180.0  # seconds; only ever used up by a failure


class Bench:
    """An executor with nodes on it, and a node of the test's own to publish and subscribe with."""

    def __init__(self):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        remove_dead_ports(ports_of(int(os.environ["ROS_DOMAIN_ID"])))  # of processes that tests have killed
        self.context = rclpy.Context()
        rclpy.init(context=self.context, args=[])
        self.executor = SingleThreadedExecutor(context=self.context)
        self.node = rclpy.create_node("bench", context=self.context)
        self.executor.add_node(self.node)
        self.closers = []

    def collect(self, kind, topic, qos):
        """Subscribe and return the list that messages are appended to."""
        messages = []
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def spin_until(self, condition, meanwhile=None, what="the condition"):
        """Take messages until the condition holds, doing something meanwhile; fail after PATIENCE seconds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if meanwhile is not None:
                meanwhile()
            self.executor.spin_once(timeout_sec=0.05)
            assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s in vain for {what}"

    def close(self):
        for close in reversed(self.closers):
            close()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture(scope="session")
def more_messages():
    """Have the messages of vision_msgs, tf2_msgs, stereo_msgs and bond; those that are not installed are built."""
    pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")
    from tests.extra_interfaces import provide

    provide()


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def stripe_engine():
    """An engine without a network: label i of K is in the i-th of K stripes."""
    return NullEngine()


@pytest.fixture
def make_rig(bench, monkeypatch, stripe_engine, tmp_path):
    """Start a node with an engine and parameters, active unless start is False."""

    def make(engine=stripe_engine, start=True, pedigree=None, **parameters):
        from rclpy.parameter import Parameter

        from synseg_model import Segmenter
        from synseg_ros.node.node import SynSegNode
        from tests.synseg_ros.rig import Rig

        segmenter = Segmenter(engine, cache_dir=tmp_path, pedigree=pedigree)
        monkeypatch.setattr("synseg_ros.node.node.Segmenter.load", lambda *args, **options: segmenter)
        given = [Parameter(name, value=value) for name, value in parameters.items()]
        node = SynSegNode(context=bench.context, parameter_overrides=given)
        assert not start or node.start()
        bench.executor.add_node(node)
        bench.closers += [node.destroy_node, node.close]
        rig = Rig(bench, node)
        if start:
            bench.spin_until(lambda: rig.statuses, what="the first status")
        return rig

    return make


@pytest.fixture
def troubled(stripe_engine):
    """An engine that waits and fails when told to."""
    from tests.synseg_ros.rig import TroubledEngine

    engine = TroubledEngine(stripe_engine)
    yield engine
    engine.gate.set()


@pytest.fixture(scope="session")
def random_model(tmp_path_factory, small_config):
    """A folder with a small model of random weights, which finds everything a little everywhere."""
    torch = pytest.importorskip("torch")

    from synseg_model.config import ImageConfig
    from synseg_model.network.synseg import SynSeg
    from synseg_model.weights.model_folder import save_model

    decoder = dataclasses.replace(small_config.decoder, head="plain")
    config = dataclasses.replace(small_config, name="random", decoder=decoder, image=ImageConfig(size=64))
    torch.manual_seed(0)
    return save_model(tmp_path_factory.mktemp("models") / "random", SynSeg.from_config(config).eval(), config)


class Clock:
    """A clock that stands still until a test sets `now`, in seconds."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()
