"""ROS messages without ROS: image encodings, results as messages, camera names. Needs no rclpy."""
