"""Arguments of commands whose work can be split among workers."""

from __future__ import annotations

import argparse
from pathlib import Path

from synseg_model.cli.shared_arguments import read_labels
from synseg_model.cli.workers.pools import Pool, ProcessPool, RayPool

__all__ = ["add_runner", "for_workers", "make_pool", "splits"]

_PROGRAM = Path(__file__).parents[2]  # the folder synseg_model


def add_runner(parser: argparse.ArgumentParser, split: str, output: str = "DIR") -> None:
    """Add --runner, --workers and --ray-address.

    Args:
        parser: the command's parser.
        split: what one worker does at a time, for the help.
        output: what the help calls the output folder.
    """
    group = parser.add_argument_group(
        "several workers",
        f"The work is split by {split}. A worker is one process with one GPU, or with CPUs where there is no GPU. "
        f"Inputs and {output} must have the same paths on all machines: {output} lies on shared storage, which is "
        f"checked. {output}/report.json counts images, images/s, failures, workers and retries. When a worker is "
        "lost, another one does its task again; a task that ends two workers is reported, and the rest goes on.",
    )
    group.add_argument(
        "--runner",
        choices=("single", "processes", "ray"),
        default="single",
        help="single: this process; processes: several on this machine; ray: a Ray cluster (default: %(default)s)",
    )
    group.add_argument(
        "--workers", type=int, default=0, metavar="N", help="workers at a time (default: one per GPU, else per CPU)"
    )
    group.add_argument(
        "--ray-address",
        default="",
        metavar="ADDRESS",
        help='address of the cluster, such as "auto" or "ray://head:10001" (default: RAY_ADDRESS; without it, a '
        "cluster starts on this machine)",
    )


def splits(arguments: argparse.Namespace) -> bool:
    """Tell whether the command line asks for workers.

    Args:
        arguments: the parsed command line, with the arguments of `add_runner`.

    Raises:
        ValueError: for options that do not fit together.
    """
    if arguments.workers < 0:
        raise ValueError(f"--workers {arguments.workers}: expected 0 or more, 0 for one per GPU or CPU")
    if arguments.runner == "single":
        if arguments.workers > 1:
            raise ValueError(f"--workers {arguments.workers} needs --runner processes or --runner ray")
        return False
    if arguments.ray_address and arguments.runner != "ray":
        raise ValueError(f"--ray-address {arguments.ray_address} needs --runner ray")
    if arguments.device.startswith("cuda:"):
        raise ValueError(f"--device {arguments.device}: every worker gets a GPU of its own, give --device cuda")
    return True


def make_pool(arguments: argparse.Namespace, *packages: Path) -> Pool:
    """Make the pool that the command line asks for.

    Args:
        arguments: the parsed command line.
        packages: folders of further packages that the work needs.

    Raises:
        ValueError: Ray is not installed, or no cluster answers.
    """
    gpus = arguments.device != "cpu" and arguments.engine != "openvino"
    if arguments.runner == "ray":
        return RayPool(arguments.workers, gpus, arguments.ray_address, (_PROGRAM, *packages))
    return ProcessPool(arguments.workers, gpus)


def for_workers(arguments: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments as workers need them: the model's path is absolute, and the file of labels is read.

    Args:
        arguments: the parsed command line.
    """
    kept: dict[str, object] = {name: value for name, value in vars(arguments).items() if not callable(value)}
    model = Path(arguments.model).expanduser()
    if model.exists():
        kept["model"] = str(model.absolute())
    return argparse.Namespace(**{**kept, "labels": read_labels(arguments)})
