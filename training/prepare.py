"""Make labels of captions: `python -m training.prepare --input "cc12m/{00000..01242}.tar"`.

The program writes the nouns and noun phrases of every caption to label files (sidecars), one beside each shard.
training.captions.sidecars describes their format, training.captions.extraction the rules. It skips shards that are
finished, so the same command continues where it was stopped. `--runner ray` runs the same work on a Ray cluster.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import jsonargparse
from tqdm import tqdm

from training.captions.report import PLOT_FILE, Totals, write_report
from training.captions.runners import run_local, run_ray, usable_cpus
from training.captions.samples import Shard, printable
from training.captions.sources import SHARD_SIZE, find_shards
from training.captions.stop_words import stop_list
from training.captions.taggers import load_tagger
from training.captions.work import Settings, Summary

SHOWN_DAMAGES = 5


@dataclass
class PrepareConfig:
    """All settings of training.prepare.

    Args:
        input: webdataset shards (a folder, or a pattern with braces or wildcards), a COCO captions file (.json), or a
            table of URL or id and caption (.tsv).
        output: folder for label files and report. By default, those of a tar lie beside it, and those of a file lie in
            a folder that is named after it.
        min_labels: captions with fewer different labels are dropped, 1 or more.
        tagger: auto takes spaCy's en_core_web_sm where it is installed, and else the shipped tagger. shipped takes the
            shipped one. Any other value is the name or folder of a spaCy pipeline.
        runner: local for processes on this machine, ray for a Ray cluster.
        workers: shards that are worked on at a time; 0 for one per CPU of the machine or cluster.
        ray_address: the cluster's address, such as "auto" or "ray://head:10001". Empty takes RAY_ADDRESS; without that
            variable, a cluster starts on this machine.
        shard_size: captions in a label file, where the input is one file.
    """

    input: str
    output: str | None = None
    min_labels: int = 2
    tagger: str = "auto"
    runner: Literal["local", "ray"] = "local"
    workers: int = 0
    ray_address: str = ""
    shard_size: int = SHARD_SIZE


def prepare(config: PrepareConfig) -> Totals:
    """Write the sidecars that are missing and the report; returns the totals of all shards.

    Raises:
        ValueError: the input or a setting is none that is accepted.
        RuntimeError: a worker was killed.
        OSError: the output cannot be written.
    """
    for name, least in (("min_labels", 1), ("workers", 0), ("shard_size", 1)):
        value = getattr(config, name)
        if value < least:
            raise ValueError(f"--{name} is {value}; it must be {least} or more.")
    shards, folder = find_shards(config.input, config.output, config.shard_size)
    tagger = load_tagger(config.tagger)
    settings = Settings(tagger.source, tagger.name, stop_list().version, config.min_labels)
    totals = Totals()
    started = time.perf_counter()
    with tqdm(total=len(shards), desc="prepare", unit="shard", smoothing=0.05) as bar:
        for summary in _run(shards, settings, config):
            totals.add(summary)
            rate = totals.fresh / (time.perf_counter() - started)
            bar.update()
            bar.set_postfix_str(f"{totals.captions:,} captions, {rate:,.0f}/s, {totals.kept_share:.1%} kept")
    seconds = time.perf_counter() - started
    report = write_report(totals, folder, seconds, {"input": config.input, **asdict(settings)})
    _tell(totals, seconds, report)
    return totals


def _run(shards: Sequence[Shard], settings: Settings, config: PrepareConfig) -> Iterator[Summary]:
    if config.runner == "ray":
        return run_ray(shards, settings, config.workers, config.ray_address)
    return run_local(shards, settings, config.workers or usable_cpus())


def _tell(totals: Totals, seconds: float, report: Path) -> None:
    print(
        f"{totals.captions:,} captions in {totals.shards:,} shards ({totals.skipped:,} done before): "
        f"{totals.kept:,} kept ({totals.kept_share:.1%}), {totals.fresh / seconds:,.0f} captions/s"
    )
    for reason, count in totals.dropped.most_common():
        print(f"  {count:,} dropped: {reason}")
    if totals.unread:
        print(f"  {len(totals.unread):,} shard{'s' * (len(totals.unread) != 1)} could not be read to their end:")
        for line in totals.unread[:SHOWN_DAMAGES]:
            print(f"    {printable(line)}")
    if totals.damages:
        print(f"  {totals.damages:,} damaged samples, among them:")
        for line in totals.damaged[:SHOWN_DAMAGES]:
            print(f"    {printable(line)}")
    print(f"wrote {report}" + (f" and {PLOT_FILE}" if totals.labels else ""))


def main() -> None:
    """Read the command line and prepare; exit with 1 where a shard could not be read to its end."""
    try:
        sys.exit(1 if prepare(jsonargparse.auto_cli(PrepareConfig, as_positional=False)).unread else 0)
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"prepare: {printable(str(error))}")
    except KeyboardInterrupt:
        sys.exit("prepare: stopped. Finished shards stay; the same command goes on with the others.")


if __name__ == "__main__":
    main()
