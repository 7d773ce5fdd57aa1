"""`synseg export`: write a model as ONNX graphs, and print how far they are from torch."""

from __future__ import annotations

import argparse

NAME = "export"
HELP = "write a model as ONNX graphs, which run without torch"
DESCRIPTION = """\
Write a model as ONNX graphs, which run without torch: on a robot, or anywhere that has onnxruntime or OpenVINO.

The output folder is a model like any other: give it to `synseg segment --model`, `synseg info` or the
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
EXAMPLES = """\
examples:
  synseg export synseg-tiny --output exported
  synseg export runs/cc12m_vitb16/model --output exported --precision fp16
  synseg export synseg-everyday --output exported --int8 photos
  synseg segment street.jpg --labels "road, car" --model exported --output out
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, the description and the examples to the command's parser."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("model", metavar="MODEL", help="a shipped model, a model folder, or a CLIPSeg id")
    parser.add_argument(
        "--output", "-o", metavar="DIR", required=True, help="folder to write: a new one, or an earlier export"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16"),
        default="fp32",
        help="number format of image encoder and decoder; fp16 is for GPUs and keeps normalisation layers and softmax "
        "in fp32; the text encoder is always fp32 (default: %(default)s)",
    )
    parser.add_argument(
        "--int8",
        metavar="PHOTOS",
        help="add an image encoder in int8 for OpenVINO, with scales from a folder of 20 photographs or more of what "
        "the model will see; for models with a backbone, in fp32; needs the extra int8",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export the model and print its parity report; returns 0."""
    from synseg_model.export.folder import export_model

    images = None
    if arguments.int8 is not None:  # whatever is wrong here is said before the export, which takes long
        if arguments.precision != "fp32":
            raise ValueError(f"--int8 with --precision {arguments.precision}: choose fp32, which int8 is made from")
        import nncf  # noqa: F401 - where it is missing, say so now

        from synseg_model.export.int8 import add_int8, read_images

        images = read_images(arguments.int8)
    export = export_model(arguments.model, arguments.output, arguments.precision)
    for name, value in export.parity.items():
        print(f"{name.replace('_', ' '):<26}{value:.3g}")
    print(f"{arguments.model} -> {arguments.output}, {export.precision}")
    if images is not None:
        iou = add_int8(arguments.output, images)
        print(f"{arguments.output}: masks in int8 have an IoU of {iou:.3f} with those of fp32, on {len(images)} images")
    return 0
