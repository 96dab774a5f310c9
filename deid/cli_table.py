"""How is one table de-identified, and searched afterwards, from the command line?"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deid.actions import Kind
from deid.batch.advice import what_to_do
from deid.batch.files import NewFile
from deid.batch.marks import Marks
from deid.batch.output import (
    Identity,
    OutputFolder,
    check_lists,
    check_places,
    product_version,
)
from deid.batch.run import Order, describe
from deid.errors import DeidRefusal
from deid.profile import Profile
from deid.pseudonym import Pseudonymiser
from deid.report import DeidReport
from deid.residual import NeedleIndex
from deid.tabular import TableDeidentifier
from schemas.errors import ConfigError, DataRejected, ErrorCode

TABLE = "table.csv"
_ENCODINGS = ("utf-8-sig", "cp949")  # what hospital systems here export; cp949 contains EUC-KR
_CHUNK = 1 << 20
_DATE = re.compile(r"[0-9]{4}[-./]?[0-9]{2}[-./]?[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one row: its line (1 is the header) and its cells, None if they do not fit."""

    line: int
    cells: dict[str, str] | None


def is_table(source: Path) -> bool:
    """Tell whether the input is a table."""
    return source.suffix.lower() == ".csv" and source.is_file()


def run_table(order: Order, profile: Profile, patient_column: str) -> dict[str, Any]:
    """De-identify one table into `OUTPUT/table.csv`; gives the report.

    Raises:
        ConfigError: the profile has no columns, or the places overlap or belong to another run.
        DataRejected: the file's text encoding is not known.
    """
    if not profile.table:
        raise ConfigError(
            ErrorCode.CONFIG_USAGE,
            "The profile has no [table]: every column would be removed.",
            hint="Name a profile with the columns that may stay, for example ehr-table.",
        )
    if order.mapping is not None:
        raise ConfigError(
            ErrorCode.CONFIG_USAGE,
            "A table has no mapping of files.",
            hint="Leave --mapping out: rows keep their order.",
        )
    check_places(order.source, order.output, [order.quarantine_path], order.key_file, order.report)
    check_lists(order.lists, order.key_file)
    marks = Marks(order.key.secret, order.project)
    identity = Identity(marks.run(), profile.name, profile.digest, product_version())
    report = DeidReport()
    cleaner = TableDeidentifier(
        profile, Pseudonymiser(order.key.secret, order.project), patient_column, report
    )
    rows = _rows(order.source, _encoding(order.source))
    folder = OutputFolder(order.output, identity)
    quarantined: Counter[ErrorCode] = Counter()
    read = 0
    table, quarantine = NewFile(folder.root / TABLE), NewFile(order.quarantine_path, mode=0o600)
    try:
        _write(quarantine, ["line", "code", "meaning", "what_to_do"], bom=True)
        header: list[str] | None = None
        for row in rows:
            read += 1
            code = ErrorCode.ROW_MALFORMED
            if row.cells is not None:
                try:
                    clean = cleaner.clean(row.cells)
                except DeidRefusal as refusal:
                    code = refusal.code
                else:
                    if header is None:
                        header = list(clean)
                        _write(table, header)
                    _write(table, list(clean.values()))
                    continue
            quarantined[code] += 1
            _write(quarantine, [str(row.line), code.value, code.meaning, what_to_do(code)])
        table.commit()
        quarantine.commit()
    finally:
        table.abandon()
        quarantine.abandon()
        folder.close()
    body = {
        "report": 1,
        "product": "cohortium-deid",
        "version": product_version(),
        "profile": describe(profile),
        "counts": {
            "read": read,
            "released": report.records,
            "quarantined": quarantined.total(),
        },
        "quarantined": [
            {"code": c.value, "rows": n, "meaning": c.meaning, "what_to_do": what_to_do(c)}
            for c, n in sorted(quarantined.items())
        ],
        "actions": {str(kind): count for kind, count in sorted(report.actions.items())},
    }
    if order.report is not None:
        file = NewFile(order.report)
        file.write(json.dumps(body, indent=1, ensure_ascii=False).encode("utf-8") + b"\n")
        file.commit()
    return body


def verify_table(output: Path, profile: Profile, source: Path) -> tuple[int, int]:
    """Search a clean table for every removed cell; gives (values searched for, values found).

    Dates are left out: one patient's moved date may be another's true one.

    Raises:
        ConfigError: there is no clean table.
    """
    kept = {name for name, action in profile.table.items() if action.kind is Kind.KEEP}
    removed = {
        text
        for row in _rows(source, _encoding(source))
        for name, text in (row.cells or {}).items()
        if name not in kept and not _DATE.fullmatch(text)
    }
    index = NeedleIndex(sorted(removed))
    try:
        raw = (output / TABLE).read_bytes()
    except OSError:
        raise ConfigError(
            ErrorCode.SOURCE_MISSING, "The output holds no table.csv.", hint="Check its path."
        ) from None
    return len(index), len({hit.needle for hit in index.search(raw)})


def _rows(source: Path, encoding: str) -> Iterator[Row]:
    with source.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, strict=True)
        header: list[str] | None = None
        while True:
            try:
                cells = next(reader, None)
            except csv.Error:
                yield Row(reader.line_num, None)
                continue
            if cells is None:
                return
            if header is None:
                header = [name.strip() for name in cells]
                if len(set(header)) != len(header):
                    raise DataRejected(
                        ErrorCode.COLUMN_DUPLICATE,
                        ErrorCode.COLUMN_DUPLICATE.meaning,
                        hint="Give every column of the table its own name.",
                    )
            elif cells:
                fits = len(cells) == len(header)
                row = dict(zip(header, cells, strict=True)) if fits else None
                yield Row(reader.line_num, row)


def _encoding(source: Path) -> str:
    for encoding in _ENCODINGS:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            with source.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding
    raise DataRejected(
        ErrorCode.FILE_ENCODING,
        ErrorCode.FILE_ENCODING.meaning,
        hint="Save the table as UTF-8 or as EUC-KR (CP949).",
    )


def _write(file: NewFile, cells: list[str], *, bom: bool = False) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    file.write((b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode("utf-8"))
