"""A node in the test's own process, with its surroundings; and an engine that makes trouble."""

import threading

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from synseg_ros.msg import Vocabulary, VocabularyStatus

from synseg_ros.qos import EVERY_MESSAGE, LATCHED
from synseg_ros.ros_messages import image_from_array

HEIGHT, WIDTH = 48, 60
TOPIC = "/camera/image_raw"


class Rig:
    """A node with its surroundings: a camera, somebody who publishes vocabularies, and subscribers."""

    def __init__(self, bench, node):
        self.bench, self.node = bench, node
        self.camera = bench.node.create_publisher(Image, TOPIC, qos_profile_sensor_data)
        self.speaker = bench.node.create_publisher(Vocabulary, "/synseg/vocab", LATCHED)
        self.statuses = bench.collect(VocabularyStatus, "/synseg/active_vocab", LATCHED)
        self.stamp = 0

    def listen(self, kind, name):
        return self.bench.collect(kind, f"/synseg/camera/{name}", EVERY_MESSAGE)

    def ask(self, *labels, thresholds=()):
        """Publish a vocabulary and wait for the answer."""
        before = len(self.statuses)
        self.speaker.publish(Vocabulary(labels=list(labels), thresholds=list(thresholds)))
        self.bench.spin_until(lambda: len(self.statuses) > before, what="a status")
        return self.statuses[-1]

    def connect(self):
        """Wait until the node hears the camera, and every output that is listened to has its listener."""
        listeners = {s.topic_name for s in self.bench.node.subscriptions if "/synseg/camera/" in s.topic_name}
        self.bench.spin_until(
            lambda: (
                self.camera.get_subscription_count()
                and all(p.get_subscription_count() for p in self.node.publishers if p.topic_name in listeners)
            ),
            what="connections",
        )

    def show(self, image=None, **fields):
        """Publish a frame, black without an image (H, W, 3) RGB, with a stamp of its own; return that stamp."""
        self.stamp += 1
        header = Header(stamp=Time(sec=1000, nanosec=self.stamp), frame_id="lens")
        message = image_from_array(np.zeros((HEIGHT, WIDTH, 3), np.uint8) if image is None else image, "rgb8", header)
        for name, value in fields.items():
            setattr(message, name, value)
        self.camera.publish(message)
        return self.stamp

    def counts(self):
        return self.node._cameras["camera"].statistics.counts

    def show_until(self, condition, what):
        """Publish frames, each when the one before has been looked at, until the condition holds."""

        def next_frame():
            seen = self.counts()["received"]
            self.show()
            self.bench.spin_until(lambda: self.counts()["received"] > seen, what="the frame")

        self.bench.spin_until(condition, meanwhile=next_frame, what=what)


class TroubledEngine:
    """Wraps an engine: waits at a gate while it is closed, and fails as often as told."""

    def __init__(self, engine):
        self._engine = engine
        self.gate, self.busy, self.failures = threading.Event(), threading.Event(), 0
        self.batches = []
        self.gate.set()

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def activations(self, frames, text):
        self.busy.set()
        self.batches.append(len(frames))
        assert self.gate.wait(60.0)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("out of memory")
        return self._engine.activations(frames, text)
