"""Does the table in README.md say what the tests assert?"""

from __future__ import annotations

import re
from pathlib import Path

from schemas.errors import ErrorCode

HERE = Path(__file__).parent
CODE = re.compile(r"`([a-z_]+\.[a-z_]+)`")
REQUIRED = (
    "key swap",
    "invented hospitals in the plan",
    "fake site",
    "duplicate site",
    "split cohort view",
    "split model",
    "replay of a round",
    "replay of an attempt",
    "both kinds of share",
    "three-way split view",
    "fake drop-out, then retry",
    "truncated cohort",
    "altered sum",
    "scaled sum",
    "rolled-back ledger",
    "stale plan",
    "future plan",
    "low-order points",
    "wrong length",
    "oversized",
    "bit-flipped",
    "earlier protocol version",
)


def rows() -> list[list[str]]:
    """Attack, defences, file, what happens without; one list for each row."""
    lines = (HERE / "README.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return cells[2:]


def test_every_attack_that_was_asked_for_is_in_the_table() -> None:
    marked = " ".join(re.findall(r"\*\*(.+?)\*\*", " ".join(row[0] for row in rows())))
    assert [attack for attack in REQUIRED if attack not in marked] == []


def test_every_code_in_the_table_is_asserted_in_the_file_beside_it() -> None:
    for attack, defences, file, without in rows():
        text = (HERE / f"test_{file}.py").read_text(encoding="utf-8")
        assert without
        for code in CODE.findall(defences):
            name = ErrorCode(code).name
            assert f'"{code}"' in text or f"ErrorCode.{name}" in text, (attack, code)
