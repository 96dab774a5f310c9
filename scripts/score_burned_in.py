"""How many burned-in lines are hidden, and how many pictures stay unharmed beside them?

    python -m scripts.score_burned_in --corpus DICOM_FOLDER --out build/bench/burned_in.json

Lines (names, numbers, dates, institutions; Latin and Hangul; 12 to 28 pixels; light on dark and
dark on light; plates, weak contrast, coloured on colour) are rendered into the stored values of
the corpus' own pictures, written in several transfer syntaxes, and put through the product's own
path (`deid.pixels.examine`). No reading is involved in the judgement: a line counts as visible
before if its glyphs correlate with the picture, and as hidden after if neither the whole line nor
any stretch of it two letters long does. Pictures are split by study; rules were tuned on half 0.
`--half 1` is the figure to quote, though its harmed pictures have been looked at since. Lines
are drawn with installed fonts: DejaVu or Liberation for Latin; Nanum, Noto CJK or Baekmuk
for Hangul (Debian: fonts-dejavu-core, fonts-nanum).
What a picture shows outside its lines is judged only where it has no text of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import random
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from deid.errors import DeidRefusal
from deid.pixels import TextDetector, examine
from deid.pixels.codec import Frames, open_frames
from deid.pixels.kinds import is_picture
from deid.profile import Profile, shipped_profile
from scripts.burned_in_lines import (
    TEXTS,
    VISIBLE,
    Line,
    correlation,
    fonts_of,
    glyphs,
    is_hidden,
)

EXPLICIT = "1.2.840.10008.1.2.1"
SYNTAXES = {
    EXPLICIT: "explicit little endian",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
}
MARGIN = 16  # pixels around a line that may go with it
COLOURS = ((255, 255, 255), (255, 255, 0), (0, 255, 0), (0, 255, 255), (255, 128, 0))


@dataclass(frozen=True)
class Background:
    """One picture of the corpus: stored values of its first frame and what describes them."""

    path: str
    study: str
    modality: str
    pixels: np.ndarray[Any, Any]
    dataset: Dataset
    native_text: bool


def backgrounds(corpus: Path, half: str, native: frozenset[str]) -> Iterator[Background]:
    """Every distinct picture of the corpus' half: one per study and size."""
    seen: set[tuple[str, tuple[int, ...]]] = set()
    for path in sorted(file for file in corpus.rglob("*") if file.is_file()):
        try:
            dataset = pydicom.dcmread(path)
            syntax = str(dataset.file_meta.TransferSyntaxUID)
            if "PixelData" not in dataset or not is_picture(dataset):
                continue
            frames = open_frames(dataset, syntax)
            if frames.count < 1 or min(frames.rows, frames.columns) < 100:
                continue
            study = str(dataset.get("StudyInstanceUID") or path.stem)
            part = int(hashlib.sha256(study.encode()).hexdigest(), 16) % 2
            pixels = coloured(frames)
        except (DeidRefusal, pydicom.errors.InvalidDicomError, AttributeError, ValueError, OSError):
            continue
        if (half != "all" and part != int(half)) or pixels.min() == pixels.max():
            continue
        if (study, pixels.shape) in seen:
            continue
        seen.add((study, pixels.shape))
        name = path.relative_to(corpus).as_posix()
        modality = str(dataset.get("Modality") or "none")
        yield Background(name, study, modality, pixels, dataset, name in native)


def coloured(frames: Frames) -> np.ndarray[Any, Any]:
    """The first frame's stored values; palette and YBR pictures as 8-bit red, green, blue."""
    kind = frames.coded(0).photometric
    values = np.asarray(frames.stored(0))
    if kind.startswith(("YBR_FULL", "PALETTE")):
        grey = frames.grey(0)
        return np.stack([grey] * 3, axis=2)
    return values


def burned(
    background: Background, script: str, chance: random.Random, fonts: list[Path], lines: int
) -> tuple[np.ndarray[Any, Any], list[Line]]:
    """The picture with lines drawn into its stored values."""
    picture = background.pixels.copy()
    rows, columns = picture.shape[:2]
    ground = picture if picture.ndim == 2 else picture.mean(axis=2)
    low, high = (
        (0.0, 255.0) if picture.dtype == np.uint8 else (float(picture.min()), float(picture.max()))
    )
    taken = np.zeros((rows, columns), dtype=bool)
    drawn: list[Line] = []
    for _ in range(40 * lines):
        if len(drawn) == lines:
            break
        size = chance.randint(12, 28)
        if max(rows, columns) > 1500:
            size = chance.randint(20, 60)
        ink = glyphs(TEXTS[script](chance), chance.choice(fonts), size)
        if chance.random() < 0.3:
            ink = (ink > 0.43).astype(np.float64)  # drawn without smoothing, as consoles do
        height, width = ink.shape
        if height + 2 > rows or width + 2 > columns:
            continue
        top, left = chance.randint(0, rows - height), chance.randint(0, columns - width)
        if chance.random() < 0.3:
            top, left = chance.choice((0, rows - height)), chance.choice((0, columns - width))
        here = (slice(top, top + height), slice(left, left + width))
        around = window(top - 8, left - 8, top + height + 8, left + width + 8)
        if taken[around].any():
            continue
        mean, spread = float(ground[here].mean()), float(ground[here].std())
        value = high if high - mean > mean - low else low
        if chance.random() < 0.1:  # on a plate of its own
            plate = low if value == high else high
            picture[window(top - 4, left - 4, top + height + 4, left + width + 4)] = plate
        else:
            if chance.random() < 0.4:
                value = mean + (value - mean) * chance.uniform(0.5, 1.0)
            if abs(value - mean) < max(2.0 * spread, 0.2 * (high - low)):
                continue  # nobody could read it there
        taken[window(top - 6, left - 6, top + height + 6, left + width + 6)] = True
        colour: Any = value
        alpha = ink
        if picture.ndim == 3:
            alpha = ink[..., None]
            if value == high and picture.dtype == np.uint8:
                colour = np.array(chance.choice(COLOURS), dtype=np.float64)
        part = picture[here].astype(np.float64)
        picture[here] = np.round(part + (colour - part) * alpha).astype(picture.dtype)
        drawn.append(Line(top, left, ink, size))
    return picture, drawn


def window(top: int, left: int, bottom: int, right: int) -> tuple[slice, slice]:
    return slice(max(0, top), bottom), slice(max(0, left), right)


def as_object(background: Background, pixels: np.ndarray[Any, Any], syntax: str) -> Dataset | None:
    """The object with one frame of these values in that coding; None where it cannot hold them."""
    dataset = Dataset()
    for element in background.dataset:
        if element.keyword not in ("PixelData", "NumberOfFrames") and element.tag.group < 0x5000:
            dataset.add(element)
    bits = 8 * pixels.dtype.itemsize
    signed = pixels.dtype.kind == "i"
    if bits > 16 or (syntax.endswith(".4.50") and bits != 8):
        return None
    colour = pixels.ndim == 3
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = pixels.shape[2] if colour else 1
    kind = str(background.dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    dataset.PhotometricInterpretation = "RGB" if colour else kind
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(signed)
    if colour:
        dataset.PlanarConfiguration = 0
    little = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<")))
    if syntax == EXPLICIT:
        dataset.PixelData = little.tobytes() + b"\0" * (little.nbytes % 2)
        return dataset
    native = little.view(f"u{bits // 8}")
    if syntax.endswith(".4.80"):
        stream = imagecodecs.jpegls_encode(native)
    elif syntax.endswith(".4.90"):
        if signed:
            return None
        stream = imagecodecs.jpeg2k_encode(
            native, level=0, codecformat="j2k", reversible=True, mct=False
        )
    else:
        stream = imagecodecs.jpeg8_encode(native, level=92)
        if colour:
            dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PixelData = encapsulate([stream])
    return dataset


def score_one(
    background: Background,
    drawn: list[Line],
    dataset: Dataset,
    syntax: str,
    profile: Profile,
    detector: TextDetector,
) -> dict[str, Any]:
    """Put one object through the product's path and judge it."""
    before = np.asarray(open_frames(dataset, syntax).stored(0))
    started = time.process_time()
    try:
        outcome = examine(dataset, syntax, profile, detector)
    except DeidRefusal as refusal:
        return {"refused": refusal.code.value, "seconds": time.process_time() - started}
    seconds = time.process_time() - started
    after = before
    if outcome.pixel_data is not None:
        for keyword, value in outcome.changes.items():
            setattr(dataset, keyword, value)
        dataset.PixelData = outcome.pixel_data
        after = np.asarray(open_frames(dataset, outcome.transfer_syntax).stored(0))
    changed = before != after
    if changed.ndim == 3:
        changed = changed.any(axis=2)
    around = np.zeros(changed.shape, dtype=bool)
    for line in drawn:
        height, width = line.ink.shape
        around[
            window(
                line.top - MARGIN,
                line.left - MARGIN,
                line.top + height + MARGIN,
                line.left + width + MARGIN,
            )
        ] = True
    visible = [line for line in drawn if correlation(before, line) >= VISIBLE]
    return {
        "seconds": seconds,
        "lines": len(visible),
        "hidden": sum(is_hidden(after, line) for line in visible),
        "missed_sizes": [line.text_size for line in visible if not is_hidden(after, line)],
        "outside": float((changed & ~around).mean()),
        "removed": outcome.report.removed_fraction,
        "syntax_kept": outcome.transfer_syntax == syntax,
    }


def wilson(hits: int, total: int) -> list[float]:
    """Wilson's 95 % interval of a rate (Wilson, JASA 1927), in percent."""
    if total == 0:
        return [0.0, 100.0]
    z, rate = 1.959964, hits / total
    middle = rate + z * z / (2 * total)
    half = z * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return [round(100 * (middle - half) / scale, 2), round(100 * (middle + half) / scale, 2)]


def rate(hits: int, total: int) -> dict[str, Any]:
    percent = round(100 * hits / total, 2) if total else None
    return {"hits": hits, "of": total, "percent": percent, "wilson_95": wilson(hits, total)}


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    judged = [one for one in results if "refused" not in one]
    clean = [one for one in judged if not one["native_text"]]
    return {
        "pictures": len(results),
        "refused": len(results) - len(judged),
        "lines_hidden": rate(sum(o["hidden"] for o in judged), sum(o["lines"] for o in judged)),
        "pictures_untouched_outside": rate(sum(o["outside"] == 0 for o in clean), len(clean)),
        "pictures_unharmed_outside": rate(sum(o["outside"] <= 0.001 for o in clean), len(clean)),
        "mean_removed_percent": round(
            100 * sum(o["removed"] for o in judged) / max(1, len(judged)), 3
        ),
        "cpu_seconds_per_picture": round(
            sum(o["seconds"] for o in results) / max(1, len(results)), 3
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--half", choices=("0", "1", "all"), default="all")
    parser.add_argument("--lines", type=int, default=300, help="least lines of each script")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--native-text",
        type=Path,
        help="list of pictures (paths, one a line) with text of their own",
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    detector = TextDetector.load()
    if detector is None:
        raise SystemExit("The extra `text-detection` is not installed.")
    native = frozenset(options.native_text.read_text().split() if options.native_text else ())
    pictures = list(backgrounds(options.corpus, options.half, native))
    profile = shipped_profile("research")
    results: list[dict[str, Any]] = []
    for script in TEXTS:
        chance, fonts = random.Random(f"{options.seed}-{script}"), fonts_of(script)
        count, turn = 0, 0
        while count < options.lines and turn < 50:
            for place, background in enumerate(pictures):
                syntax = list(SYNTAXES)[(place + turn) % len(SYNTAXES)]
                pixels, drawn = burned(background, script, chance, fonts, 3)
                dataset = as_object(background, pixels, syntax)
                if dataset is None:
                    syntax = EXPLICIT
                    dataset = as_object(background, pixels, syntax)
                if dataset is None or not drawn:
                    continue
                one = score_one(background, drawn, dataset, syntax, profile, detector)
                one |= {
                    "path": background.path,
                    "native_text": background.native_text,
                    "script": script,
                    "modality": background.modality,
                    "syntax": SYNTAXES[syntax],
                }
                results.append(one)
                count += one.get("lines", 0)
            turn += 1
    report: dict[str, Any] = {"half": options.half, "backgrounds": len(pictures)}
    report["studies"] = len({background.study for background in pictures})
    report["all"] = summary(results)
    for key in ("script", "modality", "syntax"):
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for one in results:
            groups[one[key]].append(one)
        report[f"by_{key}"] = {name: summary(group) for name, group in sorted(groups.items())}
    report["pictures"] = results
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({key: report[key] for key in ("all", "by_script")}, indent=1))


if __name__ == "__main__":
    main()
