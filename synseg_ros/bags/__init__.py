"""Recorded data: rosbag2 in, rosbag2 with masks out, without ROS. Needs the extra bag."""
