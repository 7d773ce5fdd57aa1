"""What `synseg bag` writes, and the options that say where depth is; needs no library."""

OVERLAY_JPEG = "overlay/compressed"
IMAGE_KINDS = ("info", "masks", "label_map", "confidence", "overlay")
OBJECT_KINDS = ("detections", "objects", "points")
DEPTH_OPTIONS = ("--depth", "--camera-info", "--depth-info")
