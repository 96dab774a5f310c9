"""Does every limit say its unit and reason, and do they fit each other?"""

from __future__ import annotations

import re
from pathlib import Path

from schemas import limits


def test_every_limit_says_its_reason() -> None:
    source = Path(limits.__file__).read_text()
    names = re.findall(r"^([A-Z_]+): Final", source, re.MULTILINE)
    reasoned = re.findall(r'^([A-Z_]+): Final[^\n]*\n"""[A-Z][^"]+[.]"""$', source, re.MULTILINE)
    assert names and names == reasoned


def test_limits_fit_each_other() -> None:
    assert limits.MAX_SITES * 60_000 < limits.MAX_HEADER_BYTES < limits.MAX_FRAME_BYTES
    assert 4 * limits.MAX_PARAMETERS + limits.MAX_HEADER_BYTES < limits.MAX_FRAME_BYTES
    assert limits.MAX_PATIENTS * limits.MIN_INTEGER_CLIP > limits.WORD_BOUND  # headroom decides
