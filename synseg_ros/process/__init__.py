"""How a ROS process begins and ends."""
