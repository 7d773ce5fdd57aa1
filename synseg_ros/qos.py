"""Quality of service of every topic, in one place."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

# Frames into the node: only the newest is of interest.
NEWEST_FRAME = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)

# Reliable, because some consumers ask for it and the others accept it; a slow one misses old messages.
OUTPUT = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)

# For messages that must not be missed, by publishers and subscribers that keep up.
EVERY_MESSAGE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)

# Like EVERY_MESSAGE, and subscribers that come late get what was said before, too.
EVERY_MESSAGE_SO_FAR = QoSProfile(
    depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
