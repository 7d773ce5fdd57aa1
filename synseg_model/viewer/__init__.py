"""What the viewer Rerun shows: images, masks, instances and positions over time. It knows nothing of ROS."""
