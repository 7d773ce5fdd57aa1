"""A node with a camera that has depth."""

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from synseg_ros.qos import EVERY_MESSAGE, LATCHED
from synseg_ros.ros_messages import image_from_array
from tests.synseg_ros.rig import HEIGHT, WIDTH

DEPTH, INFO, DEPTH_INFO = "/camera/depth/image_raw", "/camera/camera_info", "/camera/depth/camera_info"
FOCAL = 50.0
CENTER = (WIDTH - 1) / 2, (HEIGHT - 1) / 2
LABELS = ("ball", "cup", "box")
HALF_PIXEL = 0.5 / FOCAL * 2.0 + 1e-3  # metres, at two metres: the engine's stripes are whole pixels wide


class Scene:
    """A rig with depth, camera_info and transforms; labels are in three stripes, side by side."""

    def __init__(self, rig):
        from tf2_msgs.msg import TFMessage
        from vision_msgs.msg import Detection2DArray, Detection3DArray

        self.rig, self.bench = rig, rig.bench
        node = rig.bench.node
        self.depth = node.create_publisher(Image, DEPTH, qos_profile_sensor_data)
        self.info = node.create_publisher(CameraInfo, INFO, EVERY_MESSAGE)
        self.depth_info = node.create_publisher(CameraInfo, DEPTH_INFO, EVERY_MESSAGE)
        self.tf = node.create_publisher(TFMessage, "/tf", EVERY_MESSAGE)
        self.tf_static = node.create_publisher(TFMessage, "/tf_static", LATCHED)
        self.detections = rig.listen(Detection2DArray, "detections")
        self.objects = rig.listen(Detection3DArray, "objects")
        self.points = rig.listen(PointCloud2, "points")
        self.statuses = rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
        rig.ask(*LABELS)
        rig.connect()
        publishers = (self.depth, self.info) if tuple(rig.node.settings.depth_topics) == (DEPTH,) else ()
        rig.bench.spin_until(lambda: all(p.get_subscription_count() for p in publishers), what="the node's depth")

    def inform(self, publisher=None, frame_id="lens", width=WIDTH, height=HEIGHT, focal=FOCAL, model="", d=()):
        """Publish camera_info."""
        publisher = publisher or self.info
        k = [focal, 0.0, (width - 1) / 2, 0.0, focal, (height - 1) / 2, 0.0, 0.0, 1.0]
        lens = {"distortion_model": model, "d": list(d)}
        publisher.publish(CameraInfo(header=Header(frame_id=frame_id), width=width, height=height, k=k, **lens))

    def measure(self, metres, nanosec=0, frame_id="lens"):
        """Publish depth with the stamp of the next frame, or later by so many nanoseconds."""
        stamp = Time(sec=1000, nanosec=self.rig.stamp + 1 + nanosec)
        pixels = np.nan_to_num(metres * 1000).astype(np.uint16)
        message = image_from_array(pixels, "mono16", Header(stamp=stamp, frame_id=frame_id))
        message.encoding = "16UC1"
        self.depth.publish(message)

    def settle(self, *publishers):
        """Wait until the node has taken what was published: a frame that follows finds it."""
        camera = self.rig.node._cameras["camera"]
        inputs = (camera.depth.messages.images, camera.depth.messages.infos)
        self.bench.spin_until(lambda: all(map(len, inputs)), what="depth and camera_info")

    def look(self):
        """Show a frame and wait until all of its outputs are published."""
        before = len(self.detections)
        stamp = self.rig.show()
        counts = self.rig.counts()
        done = counts["segmented"]
        self.bench.spin_until(lambda: self.rig.counts()["segmented"] > done, what="the frame")
        self.bench.spin_until(lambda: len(self.detections) > before, what="detections")
        return stamp

    def problem(self):
        return self.rig.node._cameras["camera"].objects.statistics.problem


def flat(metres=2.0, height=HEIGHT, width=WIDTH):
    return np.full((height, width), metres, np.float32)


def look_until(scene, condition, metres=None, what=""):
    """Show frames, each with its depth, until the condition holds."""

    def next_frame():
        scene.measure(flat() if metres is None else metres)
        scene.look()

    scene.bench.spin_until(condition, meanwhile=next_frame, what=what)


def stripe_center(index):
    """Where the middle of a stripe is, in pixels."""
    width = WIDTH / len(LABELS)
    return (index + 0.5) * width - 0.5, CENTER[1]


def expected(index, metres=2.0):
    x, y = stripe_center(index)
    return (x - CENTER[0]) / FOCAL * metres, (y - CENTER[1]) / FOCAL * metres, metres
