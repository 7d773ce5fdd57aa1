"""`synseg segment`: images in; masks, label maps, overlays and a summary out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synseg_model.cli.shared_arguments import (
    add_labels,
    add_model,
    engine_options,
    load_segmenter,
    read_labels,
    read_thresholds,
)
from synseg_model.cli.viewing import add_rerun, check_rerun, viewing
from synseg_model.cli.workers.arguments import add_runner, for_workers, make_pool, splits

if TYPE_CHECKING:
    from synseg_model.segmenter import Segmenter

NAME = "segment"
HELP = "segment images, folders and videos into files"
DESCRIPTION = """\
Segment images for any labels, and write the results to files.

INPUT is an image, several images, a folder of images, a video, or a camera such as /dev/video0,
which runs until Ctrl-C. The output folder gets:

  masks/IMAGE/001_LABEL.png  a mask per label that is present, 0 or 255; masks may overlap
  label_map/IMAGE.png        i where the i-th label is the most active one, 0 for background;
                             16 bits instead of 8 with more than 254 labels
  overlay/IMAGE.png          the image with coloured regions, contours and names
  overlay.mp4                the same for a video
  summary.json               model, labels, thresholds; for each image its files, time, and the
                             labels present with area (pixels), score (mean activation inside
                             the mask), presence (largest activation in the image) and roi
                             (x, y, width, height)

A video gets label_map and overlay.mp4 unless --write says otherwise.

To continue an interrupted run, repeat it. Images that have their results are left as they are, and
--rerun does not show them; a video begins again. A folder with results of other labels or another
model is refused, unless --overwrite is given.

With --runner, several workers share the work, on one machine or many. A video's results are in DIR/VIDEO then.
"""
EXAMPLES = """\
examples:
  synseg segment street.jpg --labels "road, car, tree" --output out
  synseg segment photos/ --labels-file labels.txt --thresholds 0.4 --output out
  synseg segment drive.mp4 --labels "road, car" --thresholds "0.6, 0.3" --output out --write overlay video
  synseg segment drive.mp4 --labels "road, car" --output out --rerun out.rrd
  synseg segment /data/photos --labels "road, car" --output /data/out --runner ray --ray-address auto

exit status: 0 done; 1 some images could not be read or done; 2 nothing could be done, for the reason
given; 130 interrupted
"""

IMAGE_KINDS, VIDEO_KINDS = ("masks", "label_map", "overlay"), ("label_map", "video")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, the description and the examples to the command's parser."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("input", metavar="INPUT", nargs="+", help="image(s), a folder, a video, or /dev/video0")
    add_labels(parser)
    parser.add_argument("--output", "-o", metavar="DIR", required=True, help="folder for the results")
    add_model(parser)
    parser.add_argument(
        "--write",
        nargs="+",
        choices=("masks", "label_map", "overlay", "video"),
        metavar="KIND",
        help="write only these: masks, label_map, overlay, video (default: masks label_map overlay; "
        "for a video: label_map video)",
    )
    parser.add_argument(
        "--refine",
        choices=("none", "superpixels", "sgc"),
        default="none",
        help="how masks follow the image: superpixels averages activations inside regions of one colour; "
        "sgc corrects them by CLIP's attention, with the torch engine only (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="segment everything again, whatever DIR holds")
    add_rerun(parser)
    add_runner(parser, "chunks of images, or by whole videos, of which INPUT then may name several")


def run(arguments: argparse.Namespace) -> int:
    """Segment files as the command line says; returns 0, or 1 where some images could not be read."""
    from synseg_model.cli.segment_files import FileJob, describe_file
    from synseg_model.io.result_files import ResultFolder
    from synseg_model.io.sources import open_source
    from synseg_model.viewer.image_view import ImageView

    read_labels(arguments)  # complain here already: loading a model takes seconds
    split = splits(arguments)
    check_rerun(arguments, split)
    if split:
        return _run_split(arguments)
    source = open_source(arguments.input)
    video = source.kind != "images"
    kinds = arguments.write = _kinds(arguments, video)
    segmenter, settings = load(arguments)
    if video:
        path = Path(arguments.input[0])
        settings["video"] = describe_file(path) if source.kind == "video" else {"path": str(path)}
    folder = ResultFolder(Path(arguments.output), settings, kinds, arguments.overwrite)
    with viewing(arguments) as viewer:
        job = FileJob(segmenter, source, folder, viewer and ImageView(viewer, source))
        if video:
            job.segment_video()
        else:
            job.segment_images()
    return job.report()


def load(arguments: argparse.Namespace) -> tuple[Segmenter, dict[str, Any]]:
    """Load the model with the labels, and return it with what the results depend on.

    Args:
        arguments: the parsed command line.

    Raises:
        ModelError: for a model that is missing or damaged.
        ValueError: for labels, thresholds or options that cannot be used.
    """
    labels, thresholds = read_labels(arguments), read_thresholds(arguments.thresholds)
    if thresholds is not None and len(thresholds) == 1:
        thresholds = thresholds * len(labels)
    segmenter = load_segmenter(arguments, arguments.refine)
    vocabulary = segmenter.set_vocabulary(labels, thresholds)
    settings = {
        "model": segmenter.engine.config.name,
        "fingerprint": segmenter.engine.fingerprint,
        "engine": segmenter.engine.name,
        "device": segmenter.engine.device,
        "labels": list(vocabulary.labels),
        "thresholds": [round(float(threshold), 6) for threshold in vocabulary.thresholds],
        "write": list(arguments.write),
        **engine_options(arguments),
    }
    if arguments.refine != "none":
        settings["refine"] = arguments.refine
    return segmenter, settings


def _kinds(arguments: argparse.Namespace, video: bool) -> list[str]:
    """Choose the kinds of files to write."""
    kinds = list(arguments.write or (VIDEO_KINDS if video else IMAGE_KINDS))
    if "video" in kinds and not video:
        raise ValueError("--write video: the input is not a video")
    return kinds


def _run_split(arguments: argparse.Namespace) -> int:
    """Segment images, or one or more videos, with several workers."""
    from synseg_model.cli.segment_workers import segment_images, segment_videos
    from synseg_model.io.sources import open_source

    first = open_source(arguments.input[0])
    if first.kind == "device":
        raise ValueError(f"--runner {arguments.runner}: {arguments.input[0]} is a camera, which cannot be split")
    videos = first.kind == "video"
    kinds = arguments.write = _kinds(arguments, videos)
    sent = for_workers(arguments)
    if videos:
        return segment_videos(sent, load, kinds, make_pool(arguments))
    return segment_images(sent, load, open_source(arguments.input), kinds, make_pool(arguments))
