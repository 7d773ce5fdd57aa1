"""Transforms come from tf2_ros where it is installed, else from the node's own buffer: both give the same answers."""

import inspect
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from std_msgs.msg import Header

from synseg_ros.node.transform_source import TransformSource
from synseg_ros.qos import EVERY_MESSAGE, LATCHED
from synseg_ros.space.transform_buffer import TransformError

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("more_messages")]

S = 10**9
STAND_IN = "tests.synseg_ros.node.tf2_stand_in"
needs_tf2_ros = pytest.mark.skipif(find_spec("tf2_ros") is None, reason="tf2_ros is not installed")


@pytest.fixture(params=["own buffer", "stand-in", pytest.param("tf2_ros", marks=needs_tf2_ros)])
def robot(request, bench, monkeypatch):
    if request.param != "tf2_ros":
        stand_in = import_module(STAND_IN) if request.param == "stand-in" else None  # None: it cannot be imported
        monkeypatch.setitem(sys.modules, "tf2_ros", stand_in)
    robot = Robot(bench)
    yield robot
    robot.close()


class Robot:
    """Publish transforms, and look them up on another thread than the executor's, as the node does."""

    def __init__(self, bench):
        from tf2_msgs.msg import TFMessage

        self.bench, self.kind = bench, TFMessage
        self.source = TransformSource(bench.node)
        self.moving = bench.node.create_publisher(TFMessage, "/tf", EVERY_MESSAGE)
        self.static = bench.node.create_publisher(TFMessage, "/tf_static", LATCHED)
        self.thread = ThreadPoolExecutor(1)

    def move(self, parent, child, stamp, x, static=False):
        """Publish that the child is x metres along the parent's x axis, turned by a quarter about z."""
        header = Header(stamp=Time(sec=stamp // S, nanosec=stamp % S), frame_id=parent)
        rotation = Quaternion(z=0.5**0.5, w=0.5**0.5)
        place = Transform(translation=Vector3(x=float(x)), rotation=rotation)
        one = TransformStamped(header=header, child_frame_id=child, transform=place)
        (self.static if static else self.moving).publish(self.kind(transforms=[one]))

    def ask(self, *asked, **options):
        return self.thread.submit(self.source.lookup, *asked, **options)

    def find(self, *asked, **options):
        """Return the transform, or why it is not available."""
        future = self.ask(*asked, **options)
        self.bench.spin_until(future.done, what="an answer")
        try:
            return future.result()
        except TransformError as error:
            return str(error)

    def find_soon(self, *asked):
        """Ask until what was published has arrived."""
        found = []
        self.bench.spin_until(
            lambda: found and not isinstance(found[-1], str), lambda: found.append(self.find(*asked)), "the transform"
        )
        return found[-1]

    def subscriptions(self):
        return sorted(s.topic_name for s in self.bench.node.subscriptions if s.topic_name in ("/tf", "/tf_static"))

    def close(self):
        self.source.destroy()
        self.thread.shutdown()


def place(matrix, point):
    return (matrix @ [*point, 1])[:3].tolist()


def test_points_are_taken_from_the_source_to_the_target(robot):
    robot.move("base", "lens", 0, 0.5, static=True)
    assert place(robot.find_soon("base", "lens", 7 * S), (1, 0, 0)) == pytest.approx([0.5, 1, 0])
    assert place(robot.find("lens", "base", 7 * S), (0.5, 1, 0)) == pytest.approx([1, 0, 0])
    assert place(robot.find("/base", "/lens", 7 * S), (0, 0, 0)) == pytest.approx([0.5, 0, 0])


def test_a_moving_frame_is_interpolated_at_the_frames_stamp(robot):
    robot.find("map", "base", S)  # which subscribes
    robot.bench.spin_until(robot.moving.get_subscription_count, what="a subscription")
    robot.move("map", "base", 1000 * S, 1)
    robot.move("map", "base", 1001 * S, 3)
    assert place(robot.find_soon("map", "base", 1000 * S + S // 4), (0, 0, 0)) == pytest.approx([1.5, 0, 0])


def test_a_transform_that_is_late_is_waited_for(robot):
    robot.find("map", "base", S)
    robot.bench.spin_until(robot.moving.get_subscription_count, what="a subscription")
    robot.move("map", "base", 1000 * S, 1)
    robot.find_soon("map", "base", 1000 * S)
    future = robot.ask("map", "base", 1000 * S + S // 2, timeout=60.0)
    came = threading.Timer(0.1, lambda: robot.move("map", "base", 1001 * S, 3))
    came.start()
    robot.bench.spin_until(future.done, what="an answer")
    assert place(future.result(), (0, 0, 0)) == pytest.approx([2, 0, 0])
    came.join()


def test_what_is_not_known_is_refused_with_a_reason(robot):
    robot.move("base", "lens", 0, 0.5, static=True)
    robot.find_soon("base", "lens", S)
    robot.bench.spin_until(robot.moving.get_subscription_count, what="a subscription")
    robot.move("map", "base", 1000 * S, 1)
    robot.find_soon("map", "lens", 1000 * S)
    for asked in (("nose", "lens", S), ("map", "lens", 1001 * S), ("map", "lens", 900 * S)):
        reason = robot.find(*asked, timeout=0.05)
        assert isinstance(reason, str) and reason.startswith("transform not available: ") and "\n" not in reason


def test_one_frame_needs_no_subscription_and_others_end_with_the_source(robot):
    np.testing.assert_array_equal(robot.find("/lens", "lens", S), np.eye(4))
    assert robot.subscriptions() == []
    robot.find("map", "lens", S)
    assert robot.subscriptions() == ["/tf", "/tf_static"]
    robot.source.destroy()
    assert robot.subscriptions() == []


@needs_tf2_ros
@pytest.mark.parametrize(
    "name", ["Buffer", "Buffer.lookup_transform", "TransformListener", "TransformListener.unregister"]
)
def test_the_stand_in_has_the_signatures_of_tf2_ros(name):
    kind, _, method = name.partition(".")

    def names(module):
        found = getattr(import_module(module), kind)
        return [
            (one.name, one.kind) for one in inspect.signature(getattr(found, method or "__init__")).parameters.values()
        ]

    assert names(STAND_IN) == names("tf2_ros")


@needs_tf2_ros
@pytest.mark.parametrize("name", ["LookupException", "ExtrapolationException"])
def test_the_stand_in_has_the_errors_of_tf2_ros(name):
    for module in map(import_module, (STAND_IN, "tf2_ros")):
        assert issubclass(getattr(module, name), module.TransformException)
