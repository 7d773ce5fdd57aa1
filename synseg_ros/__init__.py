"""ROS 2 around Segmenter: the node and its client, messages, recorded data, the player and the demo."""

import pkgutil

# The generated messages (synseg_ros.msg) live in the install space: let this package span both folders.
__path__ = pkgutil.extend_path(__path__, __name__)
