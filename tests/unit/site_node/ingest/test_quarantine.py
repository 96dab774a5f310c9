from __future__ import annotations

import json
from pathlib import Path

from schemas.errors import ErrorCode
from schemas.tables.contract import Severity
from site_node.ingest.quarantine import Quarantine


def test_entries_are_counted_and_written_as_codes_and_pointers(tmp_path: Path) -> None:
    quarantine = Quarantine()
    quarantine.add("row", 4, ErrorCode.ROW_INCOMPLETE, "chol")
    quarantine.add("row", 9, ErrorCode.ROW_INCOMPLETE, "chol")
    quarantine.add("label", 2, ErrorCode.LABEL_WITHOUT_IMAGE)
    assert quarantine.by_code("row") == {"ingest.row_incomplete": 2}
    findings = quarantine.findings({"row": 10, "image": 0, "label": 3})
    assert [(f.code, f.column, f.count, f.of) for f in findings] == [
        (ErrorCode.LABEL_WITHOUT_IMAGE, "", 1, 3),
        (ErrorCode.ROW_INCOMPLETE, "chol", 2, 10),
    ]
    assert all(finding.severity is Severity.QUARANTINED for finding in findings)
    path = quarantine.write(tmp_path / "q", "heart")
    lines = [json.loads(line) for line in path.read_text("ascii").splitlines()]
    code = "ingest.row_incomplete"
    meaning = ErrorCode.ROW_INCOMPLETE.meaning
    assert lines[0] == {
        "kind": "row", "pointer": 4, "code": code, "column": "chol", "meaning": meaning
    }  # fmt: skip
    assert path.stat().st_mode & 0o077 == 0


def test_a_new_list_replaces_the_old_one(tmp_path: Path) -> None:
    quarantine = Quarantine()
    quarantine.add("row", 4, ErrorCode.ROW_MALFORMED)
    quarantine.write(tmp_path, "heart")
    path = Quarantine().write(tmp_path, "heart")
    assert path.read_text("ascii") == "" and [p.name for p in tmp_path.iterdir()] == [path.name]
