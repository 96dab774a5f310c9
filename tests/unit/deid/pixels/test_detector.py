"""The network at work: Latin and Hangul found, smooth pictures left alone, tiles joined."""

from __future__ import annotations

import base64
import importlib.util
import os
import subprocess
import sys
import zlib
from importlib.machinery import ModuleSpec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deid.pixels.boxes import covered
from deid.pixels.detector import OVERLAP, TILE, TextDetector, _spans
from schemas.errors import ConfigError

Grey = NDArray[np.uint8]

# "홍길동 1234567" drawn in Nanum Gothic (SIL Open Font License) at 20 pixels, one bit a pixel.
HANGUL_SHAPE = (20, 148)
HANGUL = (
    "c-noAJ5B>J6h)6e^0+WbpmG<B6_}1LS&B<a7J!6FS{A`lo>H)mEMd}3F~WG10;S<r?{nUL*Nl*M6E}K4xto612&sS{"
    "<c-ppoAl|SL#lp<*Hs|m&4gc|7qa0?bl(+G2h+q>!{#ASh{2JQ>P}>3l2{aHaheTuC_e`F{d`h#g^IIjz8f``XT5DB"
    ")eUkA`BDq}YetW_nA9rRq0Q@`WmF^gnkcfQB(2Xq9BMnMPaD`(v^iF~!=^)fsbNJs7mv3Xl5!!cnmrDoR*I%PeGm=3"
    "?$Gu!lV&w$q_>OHpN5Gx_ILm47Znpl;s"
)


@pytest.fixture(scope="module")
def detector() -> TextDetector:
    found = TextDetector.load()
    assert found is not None, "the extra text-detection belongs to the test environment"
    return found


def tissue(rows: int = 256, columns: int = 320) -> Grey:
    """A smooth slice: a bright ellipse with an organ in it, on black."""
    down, across = np.mgrid[0:rows, 0:columns]
    body = ((down - rows / 2) / (rows * 0.4)) ** 2 + ((across - columns / 2) / (columns * 0.4)) ** 2
    organ = ((down - rows / 2) / 40) ** 2 + ((across - columns / 3) / 30) ** 2
    grey = np.where(body < 1, 110 + 10 * np.cos(across / 17), 4) + np.where(organ < 1, 60, 0)
    return grey.astype(np.uint8)


def latin_ink(text: str, size: int) -> NDArray[np.bool_]:
    font = ImageFont.load_default(size)
    left, top, right, bottom = (int(value) for value in font.getbbox(text))
    image = Image.new("L", (right + 2, bottom + 2), 0)
    ImageDraw.Draw(image).text((0, 0), text, font=font, fill=255)
    return np.asarray(image)[top:, left:] > 110


def hangul_ink() -> NDArray[np.bool_]:
    bits = np.frombuffer(zlib.decompress(base64.b85decode(HANGUL)), dtype=np.uint8)
    count = HANGUL_SHAPE[0] * HANGUL_SHAPE[1]
    return np.unpackbits(bits)[:count].reshape(HANGUL_SHAPE).astype(np.bool_)


def hidden_share(
    detector: TextDetector, grey: Grey, ink: NDArray[np.bool_], at: tuple[int, int]
) -> float:
    mask = covered(detector.find(grey), *grey.shape, frame=0)
    rows, columns = ink.shape
    return float(mask[at[0] : at[0] + rows, at[1] : at[1] + columns][ink].mean())


def written(grey: Grey, ink: NDArray[np.bool_], at: tuple[int, int], value: int) -> Grey:
    out = grey.copy()
    out[at[0] : at[0] + ink.shape[0], at[1] : at[1] + ink.shape[1]][ink] = value
    return out


@pytest.mark.parametrize(("at", "value"), [((4, 6), 255), ((120, 90), 10)])
def test_a_latin_line_light_and_dark_is_covered(
    detector: TextDetector, at: tuple[int, int], value: int
) -> None:
    ink = latin_ink("KIM MINJUN 19801231", 16)
    assert hidden_share(detector, written(tissue(), ink, at, value), ink, at) > 0.97


def test_a_hangul_line_is_covered_though_nothing_can_read_it(detector: TextDetector) -> None:
    ink, at = hangul_ink(), (200, 60)
    assert hidden_share(detector, written(tissue(), ink, at, 250), ink, at) > 0.97


def test_a_strip_that_is_one_line_is_covered(detector: TextDetector) -> None:
    ink, at = latin_ink("PARK SEOYEON", 16), (4, 20)
    grey = written(np.full((24, 300), 20, dtype=np.uint8), ink, at, 240)
    assert hidden_share(detector, grey, ink, at) > 0.97


def test_smooth_slices_are_left_whole(detector: TextDetector) -> None:
    assert detector.find(tissue()) == []
    assert detector.find(np.full((64, 64), 7, dtype=np.uint8)) == []
    assert detector.find(np.zeros((0, 0), dtype=np.uint8)) == []


def test_the_same_picture_gives_the_same_boxes_in_any_session(detector: TextDetector) -> None:
    grey = written(tissue(), latin_ink("ID 4711", 18), (10, 10), 255)
    other = TextDetector.load()
    assert other is not None
    assert detector.find(grey) == other.find(grey) != []


class EchoSession:
    """Gives each tile back as its own map, and notes the sizes."""

    def __init__(self) -> None:
        self.sides: list[tuple[int, ...]] = []

    def run(self, names: None, inputs: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        batch = inputs["x"]
        self.sides.append(batch.shape[2:])
        return [(batch[:, :1] + np.float32(1.0)) * np.float32(127.5)]


def test_tiles_are_bounded_and_join_without_a_gap() -> None:
    session = EchoSession()
    grey = np.add.outer(np.arange(2500), np.arange(1300)).astype(np.uint8)
    joined = TextDetector(session, "x").probability(grey)
    assert np.allclose(joined, grey, atol=1e-3)
    assert max(max(sides) for sides in session.sides) <= TILE


@pytest.mark.parametrize("length", [1, 100, TILE, TILE + 1, 2000, 2128, 3000, 5000])
def test_neighbouring_tiles_share_more_than_a_line(length: int) -> None:
    spans = _spans(length)
    assert spans[0].start == 0 and spans[-1].stop == length
    assert all(0 < span.stop - span.start <= TILE for span in spans)
    assert all(here.stop - then.start >= OVERLAP for here, then in pairwise(spans))


@pytest.mark.parametrize("missing", ["rapidocr", "onnxruntime", "cv2"])
def test_without_the_extra_there_is_no_detector(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else known(name)
    )
    assert TextDetector.load() is None


def test_another_model_than_the_measured_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    known = importlib.util.find_spec
    empty = ModuleSpec("rapidocr", None, origin=f"{tmp_path}/__init__.py")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: empty if name == "rapidocr" else known(name)
    )
    with pytest.raises(ConfigError):
        TextDetector.load()


def test_the_runtime_keeps_no_diary_to_send_home(tmp_path: Path) -> None:
    """Imported without a word, it leaves a device number and a queue of events in the home."""
    script = (
        "import numpy; from deid.pixels import TextDetector; "
        "TextDetector.load().find(numpy.eye(64, dtype=numpy.uint8))"
    )
    home = {key: value for key, value in os.environ.items() if not key.startswith(("XDG", "ORT"))}
    subprocess.run(
        [sys.executable, "-c", script], env={**home, "HOME": str(tmp_path)}, check=True, timeout=120
    )
    assert [*tmp_path.iterdir()] == []
