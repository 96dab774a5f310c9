"""Which hospital and which patient does each shipped X-ray belong to? (--check compares.)

PneumoniaMNIST comes from one hospital and names no patients, so both are invented, once, and
shipped as `scripts/data/pneumoniamnist/patients.json`: four uneven sites; 24 % of the training
patients have two to ten images of one finding; identical images belong to one patient; every test
patient has one. The official validation images are left out: they serve tuning.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data" / "pneumoniamnist"
SEED = "cohortium cxr patients 1"
SITES = ("site-1", "site-2", "site-3", "site-4")
# Share of each finding's patients by site: uneven in size and in prevalence.
SHARES = {0: (0.34, 0.30, 0.22, 0.14), 1: (0.43, 0.27, 0.19, 0.11)}
MULTI_SHARE = 0.24
MULTI_SIZES = tuple(range(2, 11))
MULTI_WEIGHTS = (45, 22, 12, 8, 5, 3, 2, 2, 1)


def patients(archive: Path) -> dict[str, dict[str, list[list[object]]]]:
    """Give {site: {split: [[label, [image index, …]], …]}}."""
    with np.load(archive) as file:
        data = dict(file)  # decompressed once
    generator = random.Random(SEED)
    sites: dict[str, dict[str, list[list[object]]]] = {s: {"train": [], "test": []} for s in SITES}
    for split in ("train", "test"):
        labels = data[f"{split}_labels"].reshape(-1)
        images = data[f"{split}_images"]
        for label in (0, 1):
            groups = _groups(images, np.flatnonzero(labels == label).tolist(), split, generator)
            for group, site in zip(groups, _sites(len(groups), SHARES[label]), strict=True):
                sites[site][split].append([label, group])
    for site in SITES:
        for split in ("train", "test"):
            generator.shuffle(sites[site][split])
    return sites


def _groups(
    images: np.ndarray, indices: list[int], split: str, generator: random.Random
) -> list[list[int]]:
    same: dict[bytes, list[int]] = {}
    for index in indices:
        same.setdefault(images[index].tobytes(), []).append(index)
    blocks = list(same.values())
    generator.shuffle(blocks)
    if split == "test":
        return [[block[0]] for block in blocks]
    groups: list[list[int]] = []
    while blocks:
        size = 1
        if generator.random() < MULTI_SHARE:
            size = generator.choices(MULTI_SIZES, MULTI_WEIGHTS)[0]
        group = blocks.pop()
        while blocks and len(group) + len(blocks[-1]) <= size:
            group = group + blocks.pop()
        groups.append(sorted(group))
    generator.shuffle(groups)
    return groups


def _sites(count: int, shares: tuple[float, ...]) -> list[str]:
    """Give each of `count` patients (in shuffled order) its site, by exact shares."""
    ends = [round(count * sum(shares[: i + 1])) for i in range(len(shares))]
    return [SITES[next(i for i, end in enumerate(ends) if n < end)] for n in range(count)]


def main() -> int:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    target = DATA / "patients.json"
    result = patients(DATA / "pneumoniamnist.npz")
    text = (
        "{\n"
        + ",\n".join(
            f' "{site}": {{\n'
            + ",\n".join(
                f'  "{split}": {json.dumps(rows, separators=(",", ":"))}'
                for split, rows in splits.items()
            )
            + "\n }"
            for site, splits in result.items()
        )
        + "\n}\n"
    )
    if arguments.check:
        return 0 if target.read_text(encoding="utf-8") == text else 1
    target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
