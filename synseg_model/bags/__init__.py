"""Recorded data: rosbag2 in, rosbag2 with masks out, without ROS. Needs rosbags: pip install 'synseg[bag]'."""
