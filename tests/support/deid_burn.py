"""How are lines of text burned into an image's pixels, in the syntax the image came in?"""

from __future__ import annotations

import functools
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut

from tests.support.deid_ledger import Ledger, Line
from tests.support.deid_people import Person
from tests.support.deid_pixels import CannotEncode, decode, encode

# SIL Open Font License: Debian's fonts-nanum. Where it is not installed, Hangul lines come from a
# picture of twelve lines that were rendered with it.
HANGUL_FONT = Path("/usr/share/fonts/truetype/nanum/NanumGothic.ttf")
SHORTEST_SIDE = 200  # pixels; smaller images hold no four lines


PICTURE = Path(__file__).parents[1] / "data" / "hangul_lines.png"
PICTURED = (
    "홍길동 M/57", "환자명: 남궁민서", "한빛누리병원", "곽하윤님", "주치의 표대현",
    "생년월일 1962년 3월", "황보보름 F/41", "환자명: 탁찬욱", "가온새롬대학교병원", "선우슬기님",
    "판독의 봉정란", "맹규현 (남)",
)  # fmt: skip
_PICTURED_HEIGHT = 40  # rows of the picture that each line has
_PICTURED_SIZE = 28  # the size it was rendered in


@functools.lru_cache(maxsize=64)
def _font(hangul: bool, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if hangul:
        return ImageFont.truetype(HANGUL_FONT, size)
    return ImageFont.load_default(size)  # Pillow's built-in Aileron


def render(text: str, size: int) -> NDArray[np.uint8]:
    """Render one line: ink 0 to 255, (height, width), cut to the ink."""
    hangul = any(ord(char) > 0x2FF for char in text)
    if hangul and not HANGUL_FONT.exists():
        return _pictured(text, size)
    font = _font(hangul, size)
    box = font.getbbox(text)
    image = Image.new("L", (int(box[2]) + 4, int(box[3]) + 4))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    ink = np.asarray(image)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
        return np.zeros((size, size), np.uint8)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _pictured(text: str, size: int) -> NDArray[np.uint8]:
    """Give one of the lines of the picture, scaled; another text gets the first."""
    number = PICTURED.index(text) if text in PICTURED else 0
    with Image.open(PICTURE) as picture:
        top = number * _PICTURED_HEIGHT
        line = picture.convert("L").crop((0, top, picture.width, top + _PICTURED_HEIGHT))
        ink = np.asarray(line)
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        line = line.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        scale = size / _PICTURED_SIZE
        wanted = max(1, round(line.width * scale)), max(1, round(line.height * scale))
        return np.asarray(line.resize(wanted, Image.Resampling.BILINEAR))


def texts(who: Person, rng: random.Random) -> list[tuple[str, str]]:
    """Lines with script: name, numbers, dates, hospital, as scanners print them."""
    latin = [
        f"{who.family.upper()} {who.given.upper()}", f"Name: {who.given} {who.family}",
        who.hospital, f"Dr. {who.physician[1]}", f"{who.family}, {who.given} ({who.sex})",
    ]  # fmt: skip
    digits = [
        f"ID: {who.mrn}", who.rrn, f"{who.study_date:%Y-%m-%d} 10:11", f"DOB {who.birth:%d/%m/%Y}",
        who.mobile, f"Acc {who.accession}",
    ]  # fmt: skip
    hangul = list(PICTURED)
    if HANGUL_FONT.exists():
        korean = who.country == "KR"
        name = who.full_hangul if korean else "남궁보름"
        hospital = who.hospital_local if korean else "한빛누리병원"
        doctor = who.physician_hangul.replace("^", "") or "표하윤"
        hangul = [
            f"{name} {who.sex}/57", f"환자명: {name}", hospital, f"{name}님", f"주치의 {doctor}",
            f"생년월일 {who.birth:%Y년 %m월 %d일}",
        ]  # fmt: skip
    lines = [(text, "latin") for text in latin] + [(text, "digits") for text in digits]
    rng.shuffle(lines)
    korean = [(text, "hangul") for text in hangul]
    rng.shuffle(korean)
    mixed = [pair for both in zip(korean, lines, strict=False) for pair in both]
    return mixed or lines


def burn_lines(
    dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random, count: int
) -> None:
    """Burn up to ``count`` lines into the pixels; none where they cannot be decoded and encoded."""
    if "PixelData" not in dataset:
        return
    if min(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)) < SHORTEST_SIDE:
        return
    try:
        frames = decode(dataset)
    except Exception:  # not decodable here: nothing to burn into
        return
    frames = frames.copy()
    one = rng.randrange(len(frames)) if len(frames) > 1 and rng.random() < 0.5 else None
    lines = place_lines(dataset, frames, who, rng, count, one)
    if not lines:
        return
    try:
        encode(dataset, frames)
    except CannotEncode:
        return
    ledger.lines.extend(lines)
    dataset.BurnedInAnnotation = rng.choice(["NO", "YES"])  # often wrong in real life


def place_lines(
    dataset: Dataset,
    frames: NDArray[np.generic],
    who: Person,
    rng: random.Random,
    count: int,
    one: int | None,
) -> list[Line]:
    """Draw lines that do not overlap; give what was drawn."""
    rows, columns = frames.shape[1:3]
    taken = np.zeros((rows, columns), bool)
    lines: list[Line] = []
    for text, script in texts(who, rng):
        if len(lines) == count:
            break
        size = rng.randint(12, 28) * max(1, round(min(rows, columns) / 1024))
        ink = render(text, size)
        h, w = ink.shape
        if h + 16 >= rows or w + 16 >= columns:
            continue
        for _ in range(20):
            top, left = rng.randrange(4, rows - h - 4), rng.randrange(4, columns - w - 4)
            if not taken[max(0, top - 24) : top + h + 24, max(0, left - 24) : left + w + 24].any():
                break
        else:
            continue
        taken[top : top + h, left : left + w] = True
        _draw(dataset, frames, ink, top, left, one)
        lines.append(Line(top, left, top + h, left + w, one, script, text, ink.tobytes()))
    return lines


def _draw(
    dataset: Dataset,
    frames: NDArray[np.generic],
    ink: NDArray[np.uint8],
    top: int,
    left: int,
    one: int | None,
) -> None:
    """Blend the ink in, bright or dark, whichever stands out from what is there."""
    h, w = ink.shape
    which = slice(None) if one is None else slice(one, one + 1)
    patch = frames[which, top : top + h, left : left + w]
    low, high = _range(dataset, frames)
    if str(dataset.PhotometricInterpretation) == "PALETTE COLOR":
        shades = palette_shades(dataset)
        around = float(shades[np.minimum(patch, len(shades) - 1)].mean())
        dark = around < (shades.min() + shades.max()) / 2
    else:
        dark = float(np.mean(patch[..., 0] if patch.ndim == 4 else patch)) < (low + high) / 2
    colour = high if dark else low
    if frames.ndim == 4 and str(dataset.PhotometricInterpretation).startswith("YBR"):
        target = np.array([colour, 128, 128], float)
    else:
        target = np.array(colour, float)
    cover = (ink / 255.0)[None, :, :, None] if frames.ndim == 4 else (ink / 255.0)[None]
    if str(dataset.PhotometricInterpretation) == "PALETTE COLOR":
        cover = np.round(cover)  # palette numbers cannot be mixed
    blended = patch * (1 - cover) + target * cover
    frames[which, top : top + h, left : left + w] = np.round(blended).astype(frames.dtype)


def _range(dataset: Dataset, frames: NDArray[np.generic]) -> tuple[float, float]:
    """The darkest and brightest stored value a scanner would write text with."""
    if str(dataset.PhotometricInterpretation) == "PALETTE COLOR":
        return _palette_extremes(dataset)
    if frames.dtype.itemsize == 1 and frames.dtype.kind == "u":
        return 0.0, 255.0
    low, high = float(frames.min()), float(frames.max())
    if high <= low:
        high = low + 255.0
    return low, high


def palette_shades(dataset: Dataset) -> NDArray[np.float64]:
    """The brightness of every entry of the palette."""
    entries = min(int(dataset.RedPaletteColorLookupTableDescriptor[0]) or 65536, 256)
    numbers = np.arange(entries, dtype=np.uint8)[None]
    return apply_color_lut(numbers, dataset).astype(np.float64).sum(axis=-1)[0]


def _palette_extremes(dataset: Dataset) -> tuple[float, float]:
    """Numbers of the darkest and brightest entries of the palette."""
    shades = palette_shades(dataset)
    return float(shades.argmin()), float(shades.argmax())
