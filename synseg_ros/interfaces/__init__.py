"""Messages without ROS: image encodings, results as messages, names of cameras. Nothing here needs rclpy."""
