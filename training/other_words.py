"""Ask for things by other words: `python -m training.other_words --model MODEL --photos runs/photos`.

People say fridge and couch where a data set says refrigerator and sofa. The program replaces one name of a set by
another word at a time and leaves all other names unchanged. It compares the class's IoU under the two, on held-out
photographs. Words that training used and words that it never used are measured apart;
`training/data/synonyms.json` lists both.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tqdm import tqdm

from synseg_model.files import write_json, write_whole
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.model_folder import load_model
from training.datasets.photos.packed import Packed, read_packed
from training.evaluation.metrics import IGNORE
from training.evaluation.photos import BACKGROUND, image_logits, photo_truth
from training.loop.command_line import run_program
from training.networks.text_embedding import embed_phrases
from training.words.synonyms import load_synonyms

KINDS = ("trained", "never trained")
LEAST = 20.0  # IoU in percent under the name: below, a ratio says nothing


@dataclass
class OtherWordsConfig:
    """What to measure.

    Args:
        model: a model folder or a shipped name.
        photos: folder that `training.prepare_photos` wrote. The held-out part is read.
        output: folder for `other_words.json` and `other_words.md`.
        sets: data sets to read.
        most: most photographs of each set.
        words: most trained words of a name. All words that were never trained are asked for.
    """

    model: str = "synseg-everyday"
    photos: str = "runs/photos"
    output: str = "runs/other_words"
    sets: tuple[str, ...] = ("nyu", "camvid", "voc")
    most: int = 1000
    words: int = 2


def pairs_of(names: Sequence[str], most: int) -> list[tuple[str, str, str]]:
    """List (name, other word, kind) for names of a set; words that are names of the set themselves are left out."""
    table, pairs = load_synonyms(), []
    for name in names:
        if name in table:
            trained = [word for word in table[name].train if word not in names]
            pairs += [(name, word, KINDS[0]) for word in trained[:most]]
            pairs += [(name, word, KINDS[1]) for word in table[name].held_out if word not in names]
    return pairs


def measure(
    network: SynSeg,
    photos: Sequence[Packed],
    names: Sequence[str],
    pairs: Sequence[tuple[str, str, str]],
    nothing: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Measure names and other words for them.

    Args:
        network: what is measured.
        photos: photographs with masks.
        names: of the data set.
        pairs: name, other word and kind.
        nothing: whether a pixel may be none of the names, where all logits are below 0. Labels do not see each other,
            so each word is decoded once and takes its name's place among the others.

    Returns:
        The IoU in percent of each name, and of each pair's name under its other word.
    """
    text = torch.from_numpy(embed_phrases(network, [*names, *(word for _, word, _ in pairs)]))
    own, other = np.zeros((2, len(names))), np.zeros((2, len(pairs)))
    for photo in tqdm(photos, unit="image", mininterval=1):
        image, index_map = photo.decode()
        truth = photo_truth(index_map, photo.regions, names, nothing)
        known = truth != IGNORE
        logits = image_logits(network, image, text).numpy()
        maps, words = logits[: len(names), known], logits[len(names) :, known]
        truth = truth[known]
        order = np.argsort(-maps, axis=0, kind="stable")[:2]
        first, second = (np.take_along_axis(maps, order[i : i + 1], 0)[0] for i in (0, 1))
        best = np.where(first < 0, -1, order[0]) if nothing else order[0]
        for k in range(len(names)):
            count(own, k, best == k, truth == k)
        for p, (name, _, _) in enumerate(pairs):
            k = names.index(name)
            rest = np.where(order[0] == k, second, first)  # the best of the other names
            said = words[p] > (np.maximum(rest, 0) if nothing else rest)
            count(other, p, said, truth == k)
    return tuple(100 * sums[0] / np.maximum(sums[1], 1) for sums in (own, other))


def count(sums: np.ndarray, place: int, said: np.ndarray, true: np.ndarray) -> None:
    """Add intersection and union of a mask and the truth."""
    sums[0, place] += (said & true).sum()
    sums[1, place] += (said | true).sum()


def other_words(config: OtherWordsConfig) -> dict:
    """Measure all sets, write JSON and a table, and return what the JSON holds."""
    network, _ = load_model(config.model)
    about, photos = read_packed(Path(config.photos) / "held_out")
    rows = []
    for name in config.sets:
        found = [photo for photo in photos if photo.set == name][: config.most]
        classes = list(about["exhaustive"].get(name, ()))
        pairs = pairs_of(classes, config.words)
        if found and pairs:
            own, other = measure(network, found, classes, pairs, name in BACKGROUND)
            for (label, word, kind), iou in zip(pairs, other, strict=True):
                before = own[classes.index(label)]
                rows.append({"set": name, "name": label, "iou": round(float(before), 1), "word": word,
                             "word_iou": round(float(iou), 1), "kind": kind})  # fmt: skip
    if not rows:
        raise ValueError(f"{config.photos} holds none of the sets {', '.join(config.sets)} out from training")
    ratios = {
        kind: [row["word_iou"] / row["iou"] for row in rows if row["kind"] == kind and row["iou"] >= LEAST]
        for kind in KINDS
    }
    medians = {kind: round(median(values), 3) if values else None for kind, values in ratios.items()}
    counts = {kind: len(values) for kind, values in ratios.items()}
    result = {"median_ratio": medians, "pairs": counts, "least_iou": LEAST, "rows": rows}
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "other_words.json", result, indent=1)
    write_whole(output / "other_words.md", lambda file: file.write(table(result).encode()))
    return result


def table(result: dict) -> str:
    """Lay the rows out in Markdown, those of names that the model knows."""
    lines = ["| set | name | IoU | other word | IoU | ratio | the word was |", "|---|---|---|---|---|---|---|"]
    for row in sorted(result["rows"], key=lambda row: (row["kind"], row["set"], row["name"])):
        if row["iou"] >= result["least_iou"]:
            ratio = row["word_iou"] / row["iou"]
            lines.append(f"| {row['set']} | {row['name']} | {row['iou']:.0f} | {row['word']} | {row['word_iou']:.0f} "
                         f"| {ratio:.2f} | {row['kind']} |")  # fmt: skip
    for kind in KINDS:
        value = result["median_ratio"][kind]
        lines.append(f"\nMedian ratio, {kind}: {'-' if value is None else f'{value:.2f}'} "
                     f"({result['pairs'][kind]} pairs)")  # fmt: skip
    return "\n".join(lines) + "\n"


def run(arguments: list[str] | None = None) -> int:
    """Read the command line and measure; returns 0, or 2 for what the user can put right."""
    return run_program(OtherWordsConfig, lambda config: print(table(other_words(config))), arguments)


if __name__ == "__main__":
    sys.exit(run())
