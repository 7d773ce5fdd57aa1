"""Call the node's services from the test's own node."""

from rclpy.qos import QoSProfile
from synseg_ros.srv import Locate, Segment, SetVocabulary

QOS = QoSProfile(depth=2000)
NAMES = {Locate: "/synseg/locate", Segment: "/synseg/segment", SetVocabulary: "/synseg/set_vocabulary"}


class Asker:
    """Ask, on the bench's node; `meanwhile` is done until the answer is there."""

    def __init__(self, rig):
        self.rig, self.bench = rig, rig.bench
        self._clients = {}

    def send(self, kind, **fields):
        """Send a request; return its future."""
        if kind not in self._clients:
            self._clients[kind] = self.bench.node.create_client(kind, NAMES[kind], qos_profile=QOS)
            self.bench.spin_until(self._clients[kind].service_is_ready, what="the service")
        return self._clients[kind].call_async(kind.Request(**fields))

    def ask(self, kind, meanwhile=None, **fields):
        """Send a request and wait for its answer."""
        future = self.send(kind, **fields)
        self.bench.spin_until(future.done, meanwhile, "the answer")
        return future.result()

    def locate(self, *labels, image=None, **fields):
        """Look for labels while frames come; without an image they are black."""
        return self.ask(Locate, lambda: self.rig.show(image), labels=list(labels), **fields)

    def want(self, client, *labels, **fields):
        """Set a client's vocabulary."""
        return self.ask(SetVocabulary, client=client, labels=list(labels), **fields)
