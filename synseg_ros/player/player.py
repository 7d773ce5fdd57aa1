"""The player publishes photographs, scenes, files or a device as a camera does. Run it: python -m synseg_ros.player.

With each frame it publishes camera_info. Where the truth is known, as for photographs and scenes, it publishes
truth/index_map with the frame's stamp, and once (latched) truth/segments, which says what the indices mean. Scenes have
depth, too: see `player.space`.
"""

from __future__ import annotations

import sys
import threading
import time
from copy import copy
from typing import Any

import rclpy
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from synseg_ros.msg import FrameInfo
from synseg_ros.parameters.given import warn_of_other_nodes_files, warn_of_unknown
from synseg_ros.parameters.server import declare
from synseg_ros.parameters.tables import PlayerSettings
from synseg_ros.player.sources import Shot, make_source
from synseg_ros.player.space import SpaceTopics
from synseg_ros.program import POLL_SECONDS, WRONG_START, ending_with_ros, init_ros
from synseg_ros.qos import EVERY_MESSAGE, LATCHED, OVERRIDABLE
from synseg_ros.ros_messages import image_from_array

ANSWER_SECONDS = 5.0  # until a frame that was not answered is sent again
ATTEMPTS = 4
# Before the first answer, whoever answers may still be starting: ask more often, and for longer.
FIRST_ANSWER_SECONDS = 1.0
FIRST_ATTEMPTS = 60


class Player(Node):
    """Publish the frames of a source, at a rate or one per answer.

    It begins with the first subscriber. At the end of a source that does not loop it shuts the ROS context down.

    Args:
        options: Those of rclpy's Node, such as parameter_overrides.

    Attributes:
        settings: The parameters, see `PlayerSettings`.
        published: Number of frames published so far.
        unanswered: Number of frames without an answer, where the parameter wait_for is set.
        failed: Whether the source failed while it was played.

    Raises:
        ValueError: The source cannot be opened.
        ParameterException: A parameter has a wrong type or value.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("synseg_player", **options)
        self.settings = settings = declare(self, PlayerSettings)
        warn_of_unknown(self)
        self.published = self.unanswered = 0
        self.failed = False
        self._heard = False
        base = settings.topic.rpartition("/")[0]
        sensor = copy(qos_profile_sensor_data)  # rclpy writes the overrides into the profile that it is given
        self._images = self.create_publisher(Image, settings.topic, sensor, qos_overriding_options=OVERRIDABLE)
        warn_of_unknown(self, qos=True)
        self._truth = self.create_publisher(Image, f"{base}/truth/index_map", EVERY_MESSAGE)
        self._segments = self.create_publisher(String, f"{base}/truth/segments", LATCHED)
        self._stopping = threading.Event()
        self._answered = threading.Event()
        self._awaited: tuple[int, int] | None = None
        if settings.wait_for:
            self.create_subscription(FrameInfo, settings.wait_for, self._take_answer, EVERY_MESSAGE)
        self._source = make_source(settings.source, settings.seed, settings.width, settings.height, settings.fps)
        self._space = SpaceTopics(self, base, settings, self._source)
        if self._source.segments is not None:
            self._segments.publish(String(data=self._source.segments))
        self._thread = threading.Thread(target=self._run, name="synseg-player", daemon=True)

    def start(self) -> None:
        """Start playing, as soon as the frames have a subscriber."""
        self._thread.start()

    def close(self) -> None:
        """Stop playing."""
        self._stopping.set()
        self._answered.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        try:
            while not self._images.get_subscription_count() and not self._stopping.wait(0.05):
                pass
            self._play()
            while self.settings.loop and not self._source.live and not self._stopping.is_set():
                self._play()
            self._finish()
        except Exception as error:
            if self.context.ok() and not self._stopping.is_set():
                self.failed = True
                self.get_logger().fatal(f"{self.settings.source}: {error}")
        finally:
            rclpy.try_shutdown(context=self.context)

    def _play(self) -> None:
        due, period = time.monotonic(), 1 / self._source.fps
        for shot in self._source:
            if self._stopping.is_set():
                return
            if self.settings.wait_for:
                self._publish_until_answered(shot)
                continue
            self._publish(shot, self._header())
            # After a delay the next frame is due one period from now: a camera does not catch up either.
            due = max(due, time.monotonic() - period) + period
            if not self._source.live:
                self._stopping.wait(max(0.0, due - time.monotonic()))

    def _publish_until_answered(self, shot: Shot) -> None:
        header = self._header()
        self._awaited = (header.stamp.sec, header.stamp.nanosec)
        self._answered.clear()
        for attempt in range(ATTEMPTS if self._heard else FIRST_ATTEMPTS):
            self._publish(shot, header, again=attempt > 0)
            patience = ANSWER_SECONDS if self._heard else min(ANSWER_SECONDS, FIRST_ANSWER_SECONDS)
            if self._answered.wait(patience) or self._stopping.is_set():
                self._heard = True
                return
        self._heard = True  # or never will be: the next frames need not be as patient
        self.unanswered += 1
        self.get_logger().warning(f"no answer to a frame on {self.settings.wait_for}: going on with the next frame")

    def _publish(self, shot: Shot, header: Header, again: bool = False) -> None:
        if shot.index_map is not None and self._truth.get_subscription_count():
            self._truth.publish(image_from_array(shot.index_map, "mono8", header))
        if not again:
            self.published += 1
            self._space.inform(shot, header)
        self._space.publish(shot, header)
        self._images.publish(image_from_array(shot.image, "rgb8", header))

    def _header(self) -> Header:
        return Header(stamp=self.get_clock().now().to_msg(), frame_id=self.settings.frame_id)

    def _take_answer(self, message: FrameInfo) -> None:
        if (message.header.stamp.sec, message.header.stamp.nanosec) == self._awaited:
            self._answered.set()

    def _finish(self) -> None:
        for publisher in (self._space.info, self._truth):
            publisher.wait_for_all_acked(Duration(seconds=2.0))
        lost = f", {self.unanswered} of them without an answer" if self.unanswered else ""
        self.get_logger().info(f"the end of {self.settings.source}: {self.published} frames published{lost}")


def main(args: list[str] | None = None) -> int:
    """Play until interrupted or, without loop, to the end.

    Args:
        args: Command line arguments; None for those of the process.

    Returns:
        0; 1 if the source failed while it was played, 2 if the source or a parameter cannot be used.
    """
    if not init_ros("player", args):
        return WRONG_START
    player = None
    try:
        with ending_with_ros(rclpy.get_default_context()):  # drawing scenes may take long
            player = Player()
        warn_of_other_nodes_files(player, sys.argv if args is None else args)
        player.start()
        while rclpy.ok():
            rclpy.spin_once(player, timeout_sec=POLL_SECONDS)  # a shutdown just before it waits does not wake it
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ValueError, ParameterException) as error:
        if player is not None:
            raise
        print(f"player: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG_START
    except Exception:
        if rclpy.ok():  # else the interrupt closed ROS below a player that was still starting
            raise
    finally:
        if player is not None:
            player.close()
        rclpy.try_shutdown()
    return int(player is not None and player.failed)
