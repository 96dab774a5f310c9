"""What do lines burned into a picture say and look like, and is one still legible there?

Names, numbers, dates and institutions, Latin and Hangul, drawn with installed fonts. Nothing is
read: a line is looked for by the correlation of its glyphs with the picture.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONTS = {
    "latin": ("DejaVuSans*.ttf", "DejaVuSerif*.ttf", "Liberation*.ttf"),
    "hangul": ("Nanum*.ttf", "NotoSansCJK*.ttc", "NotoSansKR*.ttf", "baekmuk*.ttf"),
}
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/Library/Fonts")
VISIBLE, HIDDEN = 0.5, 0.3  # correlation from which a line is visible, below which it is hidden
STRETCH = 0.6  # correlation from which a stretch of two letters is still legible
NAMES = ("KIM MINJUN", "PARK^SEOYEON", "Lee Doyun", "SMITH, JOHN A", "GARCIA^MARIA", "O'BRIEN P")
HANGUL = ("김민준", "이서연", "박도윤", "최지우", "정하은", "강예린", "조성호", "윤미경", "홍길동")


@dataclass(frozen=True)
class Line:
    """One line drawn: where, and how much ink each pixel got, 0 to 1."""

    top: int
    left: int
    ink: np.ndarray[Any, Any]
    text_size: int


def latin(chance: random.Random) -> str:
    number, name = chance.randint(10**6, 10**9), chance.choice(NAMES)
    day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(1930, 2024)
    return chance.choice(
        (
            name,
            f"{name} {chance.choice('MF')} {chance.randint(1, 99):03d}Y",
            f"ID: {number}",
            str(number),
            f"{year}-{month:02d}-{day:02d}",
            f"DOB {day:02d}/{month:02d}/{year}",
            f"ACC {number}",
            f"{year % 100:02d}{month:02d}{day:02d}-{chance.randint(10**6, 4 * 10**6)}",
            f"010-{chance.randint(1000, 9999)}-{chance.randint(1000, 9999)}",
            chance.choice(("ST MARY HOSPITAL", "General Hospital", "Dr. Lee H.J.")),
        )
    )


def hangul(chance: random.Random) -> str:
    number, name = chance.randint(10**6, 10**8), chance.choice(HANGUL)
    day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(1930, 2024)
    return chance.choice(
        (
            name,
            f"{name} 님",
            f"{name} ({chance.choice('남여')}/{chance.randint(1, 99)}세)",
            f"환자명: {name}",
            f"등록번호 {number}",
            f"{year}년 {month}월 {day}일",
            f"생년월일 {year}.{month}.{day}",
            f"담당의 {name} 교수",
            chance.choice(("한국대학교병원", "서울중앙병원 영상의학과", "가나다의료원")),
            f"{name} {number}",
        )
    )


TEXTS: dict[str, Callable[[random.Random], str]] = {"latin": latin, "hangul": hangul}


def fonts_of(script: str) -> list[Path]:
    found = [
        path
        for folder in FONT_FOLDERS
        for pattern in FONTS[script]
        for path in Path(folder).expanduser().rglob(pattern)
        if "Oblique" not in path.name and "Italic" not in path.name and "Math" not in path.name
    ]
    if not found:
        raise SystemExit(f"No font for {script} is installed; see this script's first lines.")
    return sorted(found)


def glyphs(text: str, font: Path, size: int) -> np.ndarray[Any, Any]:
    face = ImageFont.truetype(str(font), size)
    left, top, right, bottom = (math.floor(value) for value in face.getbbox(text))
    image = Image.new("L", (right - left + 3, bottom - top + 3), 0)
    ImageDraw.Draw(image).text((1 - left, 1 - top), text, font=face, fill=255)
    return np.asarray(image, dtype=np.float64) / 255.0


def correlation(picture: np.ndarray[Any, Any], line: Line, start: int = 0, stop: int = 0) -> float:
    """How much the picture looks like the line there, 0 to 1, ink bright or dark."""
    ink = line.ink[:, start : stop or None]
    height, width = ink.shape
    left = line.left + start
    part = picture[line.top : line.top + height, left : left + width].astype(np.float64)
    planes = [part] if part.ndim == 2 else [part[..., i] for i in range(part.shape[2])]
    best = 0.0
    for plane in planes:
        one, other = plane - plane.mean(), ink - ink.mean()
        scale = math.sqrt(float((one * one).sum() * (other * other).sum()))
        best = max(best, abs(float((one * other).sum())) / scale if scale > 0 else 0.0)
    return best


def is_hidden(picture: np.ndarray[Any, Any], line: Line) -> bool:
    if correlation(picture, line) >= HIDDEN:
        return False
    step = max(4, line.text_size)
    for start in range(0, line.ink.shape[1], step):
        stop = min(start + step, line.ink.shape[1])
        legible = stop - start >= step // 2 and line.ink[:, start:stop].max() > 0.4
        if legible and correlation(picture, line, start, stop) >= STRETCH:
            return False
    return True
