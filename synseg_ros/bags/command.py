"""`synseg bag`: a recording in, a recording with the node's output topics out."""

from __future__ import annotations

import argparse
from pathlib import Path

from synseg_model.cli.shared_arguments import (
    add_labels,
    add_model,
    load_segmenter,
    read_labels,
    read_thresholds,
)
from synseg_model.cli.viewing import add_rerun, check_rerun
from synseg_model.cli.workers.arguments import add_runner, for_workers, make_pool, splits
from synseg_model.cli.workers.pools import SinglePool
from synseg_ros.bags.kinds import IMAGE_KINDS, OBJECT_KINDS, OVERLAY_JPEG
from synseg_ros.interfaces.mask_kinds import MASK_ENCODINGS, MONO8

NAME = "bag"
HELP = "segment the cameras of a recording (rosbag2) into a new one"
DESCRIPTION = """\
Segment the cameras of a recording (rosbag2, MCAP or SQLite) for any labels, without ROS, and write what
the node would have published into a new recording, with the frames' headers and times:

  /synseg/CAMERA/info        synseg_ros/FrameInfo: vocabulary and time taken
  /synseg/CAMERA/masks       synseg_ros/ClassMasks: a cropped mask per label that is present
  /synseg/CAMERA/label_map   sensor_msgs/Image: i where the i-th label is the most active one, 0 for
                             background
  /synseg/CAMERA/confidence  sensor_msgs/Image, 0 to 255
  /synseg/CAMERA/overlay     sensor_msgs/Image: the image with coloured regions, contours and names;
                             overlay/compressed is the same as a JPEG
  /synseg/CAMERA/detections  vision_msgs/Detection2DArray: a box and an id per object
  /synseg/CAMERA/objects     vision_msgs/Detection3DArray: the same with a position, from recorded depth
  /synseg/CAMERA/points      sensor_msgs/PointCloud2: labelled points, from recorded depth
  /synseg/active_vocab       synseg_ros/VocabularyStatus: labels, thresholds, colours, pedigree

CAMERA is the first part of the camera's topic; the whole where two topics begin with the same part.

Damaged recordings are read as far as they go. OUT appears when it is complete: until then, and after an
interruption, what there is lies in OUT.partial.

Several recordings, or any number with --runner, become OUT/NAME each, and OUT/report.json. To continue an interrupted
run, repeat it: finished recordings are left as they are. Other labels or another model are refused then, unless
--overwrite is given.
"""
EXAMPLES = """\
examples:
  synseg bag drive/ --labels "road, car, tree" --output drive_masks
  synseg bag drive_0.mcap --labels "person" --topics front=/cam0/image_raw --every 5 --write masks --output out
  synseg bag drive/ --labels "road, car" --copy --follow-vocab --output drive_and_masks
  synseg bag desk/ --labels "mug" --depth /camera/depth/image_raw --target-frame base_link --output mugs
  synseg bag desk/ --labels "mug" --depth /camera/depth/image_raw --output mugs --rerun mugs.rrd
  synseg bag /data/drives/* --labels "road, car" --output /data/masks --runner ray --ray-address auto

exit status: 0 done; 1 some of the recording could not be read or copied; 2 nothing could be done, for the
reason given; 130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, the description and the examples to the command's parser.

    Args:
        parser: The parser of `synseg bag`.
    """
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        "input", metavar="IN", nargs="+", help="a rosbag2: its folder, or one .mcap or .db3 file; or several"
    )
    add_labels(parser)
    parser.add_argument("--output", "-o", metavar="OUT", required=True, help="folder of the new rosbag2")
    parser.add_argument(
        "--topics",
        nargs="+",
        metavar="TOPIC",
        help="cameras to segment, as TOPIC or NAME=TOPIC (default: every sensor_msgs/Image and "
        "CompressedImage topic outside /synseg/, without depth, and once where an image is raw and compressed)",
    )
    parser.add_argument(
        "--write",
        nargs="+",
        choices=(*IMAGE_KINDS, OVERLAY_JPEG, *OBJECT_KINDS),
        metavar="KIND",
        help=f"write only these: {', '.join((*IMAGE_KINDS, OVERLAY_JPEG, *OBJECT_KINDS))} (default: the first five; "
        "with --depth detections and objects, too)",
    )
    for option, what in (
        ("--depth", "topics of depth images"),
        ("--camera-info", "topics of the cameras' camera_info (default: camera_info beside the camera's topic)"),
        ("--depth-info", "topics of the depth cameras' camera_info (default: camera_info beside the depth topic)"),
    ):
        parser.add_argument(
            option,
            nargs="+",
            default=[],
            metavar="TOPIC",
            help=f"{what}, as TOPIC or CAMERA=TOPIC with several cameras",
        )
    parser.add_argument(
        "--mask-encoding",
        choices=MASK_ENCODINGS,
        default=MONO8,
        help="how masks are encoded, always without loss: a byte per pixel, a PNG file, or the lengths of runs "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--target-frame", default="", metavar="FRAME", help="frame of the objects' positions (default: the camera's)"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="segment every Nth frame of each camera")
    parser.add_argument("--copy", action="store_true", help="copy the recording's own topics into the new one")
    parser.add_argument(
        "--follow-vocab", action="store_true", help="change labels when the recording does, on /synseg/vocab"
    )
    parser.add_argument(
        "--storage", choices=("mcap", "sqlite3"), default="mcap", help="kind of file (default: %(default)s)"
    )
    add_model(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a bag that is at OUT")
    add_rerun(parser)
    add_runner(parser, "whole recordings", "OUT")


def run(arguments: argparse.Namespace) -> int:
    """Segment recordings as the command line says.

    Args:
        arguments: As `add_arguments` describes them.

    Returns:
        0, or 1 if some of the recordings could not be read.

    Raises:
        ValueError: An argument or the recording cannot be used.
    """
    from synseg_ros.bags.message_types import program_with_messages
    from synseg_ros.bags.recordings import segment_recording, segment_recordings

    read_labels(arguments), read_thresholds(arguments.thresholds)
    if arguments.every < 1:
        raise ValueError(f"--every {arguments.every}: expected 1 or more")
    split = splits(arguments)
    check_rerun(arguments, split or len(arguments.input) > 1)
    if split:
        with program_with_messages() as program:
            return segment_recordings(for_workers(arguments), make_pool(arguments, program))
    if len(arguments.input) > 1:
        return segment_recordings(for_workers(arguments), SinglePool())
    source, target = Path(arguments.input[0]).expanduser(), Path(arguments.output).expanduser()
    return segment_recording(arguments, source, target, lambda: load_segmenter(arguments)).report()
