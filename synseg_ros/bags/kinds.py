"""What `synseg bag` writes, and the options that say where depth is; needs no library."""

IMAGE_KINDS = ("info", "masks", "label_map", "confidence", "overlay")
OBJECT_KINDS = ("detections", "objects", "points")
DEPTH_OPTIONS = ("--depth", "--camera-info", "--depth-info")
