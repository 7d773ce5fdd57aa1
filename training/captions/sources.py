"""Find what `--input` names and split it into shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from braceexpand import UnbalancedBracesError, braceexpand

from training.captions.coco import coco_shards
from training.captions.samples import Shard
from training.captions.sidecars import SUFFIX
from training.captions.tsv import tsv_shards
from training.captions.webdataset_shards import TarShard

SHARD_SIZE = 10_000  # captions; as many as img2dataset puts into a shard
ACCEPTED = (
    "Accepted: a folder of webdataset shards, shards by pattern (cc12m/{00000..01242}.tar, cc12m/*.tar), a COCO "
    "captions file (.json), or a table of url or id and caption (.tsv)"
)


def find_shards(pattern: str, output: str | None = None, shard_size: int = SHARD_SIZE) -> tuple[list[Shard], Path]:
    """Find the shards of `pattern`; returns them with the folder that the sidecars and the report go to.

    Without `output`, sidecars of tars lie beside them and those of other files in a folder named after the file.

    Raises:
        ValueError: nothing is there, or not of an accepted kind.
    """
    paths = _paths(pattern)
    kinds = {path.suffix.lower() for path in paths}
    if kinds == {".tar"}:
        return _tar_shards(paths, output)
    if len(paths) > 1 or not kinds <= {".json", ".tsv"}:
        raise ValueError(
            f"{pattern!r} names {len(paths)} files of kinds {sorted(kinds)}. {ACCEPTED}, one file of these."
        )
    path = paths[0]
    folder = Path(output) if output else labels_folder(path)
    split = coco_shards if path.suffix.lower() == ".json" else tsv_shards
    shards = split(path, folder, shard_size)
    if not shards:
        raise ValueError(f"{path} has no captions.")
    return list(shards), folder


def labels_folder(path: Path) -> Path:
    """Name the folder that the sidecars of a captions file or a table go to by default."""
    return path.with_name(f"{path.stem}-labels")


def _paths(pattern: str) -> list[Path]:
    """Expand a folder, braces and wildcards; the order is that of the pattern."""
    if Path(pattern).is_dir():
        paths = sorted(Path(pattern).glob("*.tar"))
        if not paths:
            raise ValueError(f"{pattern} holds no .tar files. {ACCEPTED}.")
        return paths
    if Path(pattern).is_file():
        return [Path(pattern)]
    try:
        names = list(braceexpand(pattern))
    except UnbalancedBracesError as error:
        raise ValueError(f"{pattern!r} has unbalanced braces. {ACCEPTED}.") from error
    missing = [name for name in names if not (glob(name) or Path(name).is_file())]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} names in {pattern!r} match no file, the first is {missing[0]}. {ACCEPTED}."
        )
    return [Path(path) for name in names for path in sorted(glob(name)) or [name]]


def _tar_shards(paths: Sequence[Path], output: str | None) -> tuple[list[Shard], Path]:
    sidecars = [(Path(output) if output else path.parent) / f"{path.stem}{SUFFIX}" for path in paths]
    repeated = [sidecar.name for sidecar, count in Counter(sidecars).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{len(repeated)} sidecars would be written twice, the first is {repeated[0]}: two shards have one name. "
            "Leave out --output, or prepare their folders one by one."
        )
    shards = [TarShard(path, sidecar) for path, sidecar in zip(paths, sidecars, strict=True)]
    return list(shards), Path(output) if output else paths[0].parent
