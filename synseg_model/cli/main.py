"""The command line `synseg`, also `python -m synseg_model`; each command lives in a module of its own."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from synseg_model import __version__
from synseg_model.config import DEFAULT_MODEL
from synseg_model.install_hints import missing_module
from synseg_model.memory import keep_freed_memory

INTERRUPTED = 130  # what shells expect after Ctrl-C

_TELLING = ("engines", "export")  # modules that say what they do: which engine was chosen and why, how far an export is

_SEGMENT_HELP = """\
Segment images for any labels, and write what was found to files.

INPUT is an image, several images, a folder of images, a video, or a camera such as /dev/video0,
which runs until Ctrl-C. The output folder gets:

  masks/IMAGE/001_LABEL.png  a mask per label that is present, 0 or 255; masks may overlap
  label_map/IMAGE.png        i where the i-th label is the most active one, 0 for background;
                             16 bits instead of 8 with more than 254 labels
  overlay/IMAGE.png          the image with coloured regions, contours and names
  overlay.mp4                the same for a video
  summary.json               model, labels, thresholds; for each image its files, time, and the
                             labels present with area (pixels), score (mean activation inside
                             the mask), presence (largest activation in the
                             image) and roi (x, y, width, height)

A video gets label_map and overlay.mp4 unless --write says otherwise.

To continue an interrupted run, repeat it: images that have their results are left as they are, a
video begins again. A folder with results of other labels or another model is refused unless
--overwrite is given.
"""
_SEGMENT_EXAMPLES = """\
examples:
  synseg segment street.jpg --labels "road, car, tree" --output out
  synseg segment photos/ --labels-file labels.txt --thresholds 0.4 --output out
  synseg segment drive.mp4 --labels "road, car" --thresholds "0.6, 0.3" --output out --write overlay video

exit status: 0 done; 1 some images could not be read; 2 nothing could be done, for the reason
given; 130 interrupted
"""
_BAG_HELP = """\
Segment the cameras of a recording (rosbag2, MCAP or SQLite) for any labels, without ROS, and write what
the node would have published into a new recording, with the frames' headers and times:

  /synseg/CAMERA/info        synseg_ros/FrameInfo: vocabulary and time taken
  /synseg/CAMERA/masks       synseg_ros/ClassMasks: a cropped mask per label that is present
  /synseg/CAMERA/label_map   sensor_msgs/Image: i where the i-th label is the most active one, 0 for
                             background
  /synseg/CAMERA/confidence  sensor_msgs/Image, 0 to 255
  /synseg/CAMERA/overlay     sensor_msgs/Image: the image with coloured regions, contours and names
  /synseg/active_vocab       synseg_ros/VocabularyStatus: labels, thresholds, colours, pedigree

CAMERA is the first part of the camera's topic; the whole where two topics begin with the same part.

Damaged recordings are read as far as they go. OUT appears when it is complete: until then, and after an
interruption, what there is lies in OUT.partial.
"""
_BAG_EXAMPLES = """\
examples:
  synseg bag drive/ --labels "road, car, tree" --output drive_masks
  synseg bag drive_0.mcap --labels "person" --topics front=/cam0/image_raw --every 5 --write masks --output out
  synseg bag drive/ --labels "road, car" --copy --follow-vocab --output drive_and_masks

exit status: 0 done; 1 some of the recording could not be read or copied; 2 nothing could be done, for the
reason given; 130 interrupted
"""
_EXPORT_HELP = """\
Write a model as ONNX graphs, which run without torch: on a robot, or anywhere that has onnxruntime or OpenVINO.

The output folder is a model like any other: name it to `synseg segment --model`, `synseg info`, or the
node. It holds

  image_encoder.onnx  frames (B,H,W,3) uint8 RGB of any size -> features; resizing and normalising
                      happen in the graph
  decoder.onnx        features and text embeddings (K,D) -> activations (B,K,h,w) in [0,1]
  text_encoder.onnx   token ids (N,L) -> text embeddings (N,D)
  tokenizer.json      prompts -> token ids, for the `tokenizers` library
  positions.npy       position embeddings, to be resampled for the token grid of a frame
  config.json         the model's own
  export.json         precision, fingerprint, digests of the files, and the parity report

The graphs are compared with torch before anything appears at DIR: one that disagrees is refused.
"""
_EXPORT_EXAMPLES = """\
examples:
  synseg export synseg-tiny --output exported
  synseg export runs/cc12m_vitb16/model --output exported --precision fp16
  synseg segment street.jpg --labels "road, car" --model exported --output out
"""
_BUILD_ENGINE_HELP = """\
Build the TensorRT engines of an exported folder ahead of their first use, which otherwise takes that time.

They are kept in the cache folder ($SYNSEG_CACHE_DIR, else ~/.cache/synseg), under a key of the graph, the
TensorRT and its version, the GPU, the precision and the sizes they are for: another of these means
another engine. What is there already is left as it is.
"""
_EXAMPLES = """\
examples:
  synseg segment street.jpg --labels "road, car, tree" --output out
  synseg bag drive/ --labels "road, car, tree" --output drive_masks
  synseg export synseg-tiny --output exported
  synseg build-engine exported
  synseg info synseg-tiny

`synseg COMMAND --help` explains a command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, 1 for inputs that failed, 2 for errors, 130 for Ctrl-C."""
    parsed = make_parser().parse_args(arguments)
    keep_freed_memory()
    # Our own lines say what cannot be read; the libraries behind OpenCV would add theirs in their own words.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    handler = _BesideProgressBar()
    logger = logging.getLogger("synseg_model")
    logger.addHandler(handler)
    telling = [logging.getLogger(f"synseg_model.{name}") for name in _TELLING]
    levels = [each.level for each in telling]
    for each in telling:
        each.setLevel(logging.INFO)
    try:
        return parsed.run(parsed)
    except KeyboardInterrupt:
        return _complain("interrupted; finished results are kept", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for the interpreter's last flush)
        return 0
    except ModuleNotFoundError as error:
        return _complain(missing_module(error))
    except Exception as error:
        if os.environ.get("SYNSEG_DEBUG"):
            raise
        expected = isinstance(error, (ValueError, OSError))
        kind = "" if expected else f"unexpected {type(error).__name__} (SYNSEG_DEBUG=1 shows where): "
        return _complain(kind + (str(error) or type(error).__name__))
    finally:
        logger.removeHandler(handler)
        for each, level in zip(telling, levels, strict=True):
            each.setLevel(level)


def make_parser() -> argparse.ArgumentParser:
    """Describe every command and option."""
    parser = argparse.ArgumentParser(
        prog="synseg",
        description="Say what you care about, get masks for it: open-vocabulary segmentation.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"synseg {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_segment(commands)
    _add_bag(commands)
    _add_export(commands)
    _add_build_engine(commands)
    _add_info(commands)
    return parser


def _add_segment(commands: argparse._SubParsersAction) -> None:
    parser = _add_command(
        commands,
        "segment",
        "synseg_model.cli.segment",
        help="segment images, folders and videos into files",
        description=_SEGMENT_HELP,
        epilog=_SEGMENT_EXAMPLES,
    )
    parser.add_argument("input", metavar="INPUT", nargs="+", help="image(s), a folder, a video, or /dev/video0")
    _add_labels(parser)
    parser.add_argument("--output", "-o", metavar="DIR", required=True, help="folder for the results")
    _add_model(parser)
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
        help="let masks follow the image: superpixels averages activations inside regions of one colour; "
        "sgc corrects them by CLIP's attention, with the torch engine only (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="segment everything anew, whatever DIR holds")


def _add_bag(commands: argparse._SubParsersAction) -> None:
    parser = _add_command(
        commands,
        "bag",
        "synseg_ros.bags.command",
        help="segment the cameras of a recording (rosbag2) into a new one",
        description=_BAG_HELP,
        epilog=_BAG_EXAMPLES,
    )
    parser.add_argument("input", metavar="IN", help="a rosbag2: its folder, or one .mcap or .db3 file")
    _add_labels(parser)
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
        choices=("info", "masks", "label_map", "confidence", "overlay"),
        metavar="KIND",
        help="write only these: info, masks, label_map, confidence, overlay (default: all)",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="segment every Nth frame of each camera")
    parser.add_argument("--copy", action="store_true", help="copy the recording's own topics into the new one")
    parser.add_argument(
        "--follow-vocab", action="store_true", help="change labels when the recording does, on /synseg/vocab"
    )
    parser.add_argument(
        "--storage", choices=("mcap", "sqlite3"), default="mcap", help="kind of file (default: %(default)s)"
    )
    _add_model(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a bag that is at OUT")


def _add_export(commands: argparse._SubParsersAction) -> None:
    parser = _add_command(
        commands,
        "export",
        "synseg_model.cli.export",
        help="write a model as ONNX graphs, which run without torch",
        description=_EXPORT_HELP,
        epilog=_EXPORT_EXAMPLES,
    )
    parser.add_argument("model", metavar="MODEL", help="a shipped model, a model folder, or a CLIPSeg id")
    parser.add_argument(
        "--output", "-o", metavar="DIR", required=True, help="folder to write: a new one, or an earlier export"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16"),
        default="fp32",
        help="fp16 halves image encoder and decoder, for GPUs; normalisation layers and softmax stay fp32, "
        "and so does the text encoder (default: %(default)s)",
    )


def _add_build_engine(commands: argparse._SubParsersAction) -> None:
    parser = _add_command(
        commands,
        "build-engine",
        "synseg_model.cli.build_engine",
        help="build an exported folder's TensorRT engines ahead of time",
        description=_BUILD_ENGINE_HELP,
        epilog="example:\n  synseg build-engine exported",
    )
    parser.add_argument("folder", metavar="DIR", help="a folder that `synseg export` wrote")
    parser.add_argument("--device", default="auto", help="auto, cuda or cuda:N (default: %(default)s)")


def _add_info(commands: argparse._SubParsersAction) -> None:
    parser = _add_command(
        commands,
        "info",
        "synseg_model.cli.info",
        help="describe a model",
        description="Print what a model folder holds: encoder, decoder, size, prompts, training, results, and how many "
        "names it was taught; with --labels, how the model met each of them in its training.",
        epilog='examples:\n  synseg info synseg-tiny\n  synseg info MODEL --labels "mug, stapler"',
    )
    parser.add_argument("model", metavar="MODEL", help="a shipped model's name, a model folder or an exported one")
    parser.add_argument(
        "--labels",
        metavar="TEXTS",
        help="print for each of these labels, with commas between, whether masks taught it, captions had it, or images "
        "were named after it; for one never met, the nearest name that the model knows and the cosine of the two texts",
    )


def _add_labels(parser: argparse.ArgumentParser) -> None:
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", metavar="TEXTS", help='labels with commas between: "red ball, grass"')
    labels.add_argument("--labels-file", metavar="FILE", help="labels, one per line, UTF-8")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="a shipped model, a model folder, an exported folder, or a CLIPSeg id (default: %(default)s)",
    )
    parser.add_argument(
        "--engine", default="auto", help="auto, torch, onnxruntime, openvino or tensorrt (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        help="of the engines torch and openvino (default: fp16 on a GPU, fp32 on the CPU; bf16 is faster on CPUs that "
        "have it)",
    )
    parser.add_argument(
        "--keep-labels",
        type=int,
        metavar="N",
        help="look in full only for the N labels that a coarse look finds most active in an image: a few times as "
        "fast with many labels; not with tensorrt (default: all labels)",
    )
    parser.add_argument(
        "--thresholds",
        metavar="NUMBERS",
        help="activation from which a pixel belongs to a label, 0 to 1: one number for all, or one per "
        "label with commas between (default: the model's own)",
    )
    parser.add_argument(
        "--max-labels",
        type=int,
        default=1203,
        metavar="N",
        help="most labels accepted (default: %(default)s)",
    )


def _add_command(
    commands: argparse._SubParsersAction, name: str, module: str, help: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    """Add a command whose module is imported only when it is run: `synseg --help` needs none of them."""
    parser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=lambda arguments: import_module(module).run(arguments))
    return parser


def _complain(message: str, status: int = 2) -> int:
    print(f"synseg: {' '.join(message.split())}", file=sys.stderr)
    return status


class _BesideProgressBar(logging.Handler):
    """Write log lines to stderr without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(f"synseg: {record.getMessage()}", file=sys.stderr)
