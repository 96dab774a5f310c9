"""Make the tables that de-identification runs on; `--check` says whether they are up to date.

    python -m scripts.make_deid_tables annex              # Table E.1-1, from the copies beside it
    python -m scripts.make_deid_tables types --wheel W    # attribute types, from highdicom's wheel
    python -m scripts.make_deid_tables conformance        # deid/CONFORMANCE.md
    python -m scripts.make_deid_tables digests            # the profiles' digests, for new plans

Without a part, all of them; `types` only with `--wheel`.

`deid/data/standard/SOURCE.md` says where the sources come from. The wheel is 22 MB of tables and is
not kept here: without it `types` is only checked against its recorded checksum.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deid import conformance
from deid.options import Option
from deid.profile import shipped_profile
from deid.standard import entry, tags_of_keywords
from deid.unlisted import verdicts

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deid" / "data" / "standard"
SOURCE_2026C = "table_E1-1_basic_2026c_options_2024e.json"
SOURCE_2024E = "table_E1-1_2024e.json"
WHEEL = "highdicom-0.28.2-py3-none-any.whl"
WHEEL_SHA256 = "8864c7632e2c28c44ffaa3fe302d58cc68112b3b18a2b34e96e47252427cf6e4"
PARTS = ("all", "annex", "types", "conformance", "digests")
_RANK = {"1": 1, "1C": 1, "2": 2, "2C": 2, "3": 3}
# Of the other VRs, only attributes of Table E.1-1 and keep.toml need a type: their values stay.
_TYPED_VRS = frozenset(
    {"AE", "AS", "DA", "DT", "LO", "LT", "OB", "OB or OW", "OD", "OF", "OL", "OV", "OW", "PN"}
    | {"SH", "ST", "TM", "UC", "UN", "UR", "US or OW", "UT"}
)


def annex() -> str:
    """Give the run-time form of Table E.1-1: tag to "code|option=letter|…", "|?" if not known.

    Raises:
        ValueError: the two source tables disagree on a common row.
    """
    newest = json.loads((FOLDER / SOURCE_2026C).read_text("utf-8"))
    older = {row["tag"].upper(): row for row in json.loads((FOLDER / SOURCE_2024E).read_text())}
    columns = {option.column: option.value for option in Option if option.column}
    rows = {}
    for row in newest:
        same = older.get(row["tag"].upper())
        if (same is not None) != row["options_known"] or (
            same is not None
            and (row["basicProfile"], *(row.get(column) for column in columns))
            != (same["basicProfile"], *(same.get(column) for column in columns))
        ):
            raise ValueError("the two editions of Table E.1-1 disagree on " + row["tag"])
        letters = [f"{word}={row[column]}" for column, word in columns.items() if row.get(column)]
        unknown = [] if row["options_known"] else ["?"]
        rows[_key(row["tag"])] = "|".join([row["basicProfile"], *letters, *unknown])
    return _dump({"basic": "2026c", "options": "2024e", "rows": dict(sorted(rows.items()))})


def types(wheel: Path) -> str:
    """Give the run-time form of the attribute types: for each tag where a value is demanded.

    `top` maps a type to the object classes that demand it at the top level (a bit mask over
    `iods`, in hexadecimal); `in` is the strictest type inside sequences, `but` the sequences where
    it is another. The type of an attribute is the strictest over all modules of its IOD, optional
    modules too: an attribute that is present is taken to say that its module is. 1C counts as 1
    and 2C as 2, because a condition may hold that cannot be evaluated here. In sequences the
    strictest type over all IODs is taken. What needs no value anywhere is left out.
    """
    modules_of, attributes_of, iod_of = _wheel_tables(wheel)
    iods = sorted(set(iod_of.values()))
    top: dict[int, dict[str, int]] = defaultdict(dict)  # tag: iod: type
    nested: dict[int, dict[int, int]] = defaultdict(dict)  # tag: enclosing sequence: type
    for iod in iods:
        for module in modules_of[iod]:
            for tag, parent, rank in _attributes(attributes_of.get(module["key"], ())):
                if parent:
                    nested[tag][parent] = min(rank, nested[tag].get(parent, 3))
                else:
                    top[tag][iod] = min(rank, top[tag].get(iod, 3))
    named = {int(key, 16) for key in json.loads(annex())["rows"] if _is_hex(key)} | set(verdicts())
    packed = {}
    for tag in sorted({*top, *nested}):
        if tag in named or _vr(tag) in _TYPED_VRS:
            demand = _pack(top.get(tag, {}), nested.get(tag, {}), iods)
            if demand:
                packed[f"{tag:08X}"] = demand
    classes = {uid: iods.index(iod) for uid, iod in sorted(iod_of.items())}
    return _dump({"source": WHEEL, "iods": iods, "classes": classes, "types": packed})


def _pack(
    top: Mapping[str, int], nested: Mapping[int, int], iods: list[str]
) -> dict[str, str | int | dict[str, int]]:
    demand: dict[str, str | int | dict[str, int]] = {}
    for rank in (1, 2):
        mask = sum(1 << index for index, iod in enumerate(iods) if top.get(iod) == rank)
        if mask:
            demand[f"top{rank}"] = f"{mask:x}"
    strictest = min(nested.values(), default=3)
    if strictest < 3:
        demand["in"] = strictest
        but = {f"{p:08X}": rank for p, rank in sorted(nested.items()) if rank != strictest}
        if but:
            demand["but"] = but
    return demand


def _attributes(module: list[dict[str, Any]]) -> Iterator[tuple[int, int, int]]:
    """Yield (tag, enclosing sequence's tag or 0, type); repeating groups have no single tag."""
    tags = tags_of_keywords()

    for attribute in module:
        tag = tags.get(attribute["keyword"])
        parent = tags.get(attribute["path"][-1]) if attribute["path"] else 0
        if tag is not None and parent is not None:
            yield tag, parent, _RANK[attribute["type"]]


def _is_hex(key: str) -> bool:
    return key != "odd" and "X" not in key


def _vr(tag: int) -> str:
    found = entry(tag)
    return found.vr if found else ""


def _wheel_tables(wheel: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
        raise ValueError(f"this is not {WHEEL}")
    with zipfile.ZipFile(wheel) as archive:
        modules, attributes, classes = (
            json.loads(archive.read(f"highdicom/_standard/{name}.json"))
            for name in ("iod_module_map", "module_attribute_map", "sop_class_iod_map")
        )
    return modules, attributes, classes


def _key(tag: str) -> str:
    """Give "(0008,0050)" as "00080050"; repeating groups keep their pattern, private is "odd"."""
    return "odd" if "ODD" in tag.upper() else tag.strip("()").replace(",", "").upper()


def _dump(document: Mapping[str, Any]) -> str:
    """Write JSON with one entry of the inner tables a line, so that a change can be read."""
    parts = []
    for name, value in document.items():
        if isinstance(value, dict):
            lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()]
            parts.append(f'"{name}": {{\n' + ",\n".join(lines) + "\n}")
        else:
            parts.append(f'"{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def digests() -> str:
    """Give the digest of the shipped profile for each kind of source, as new plans name them."""
    kinds = {"dicom": "research", "table": "ehr-table"}
    document = {kind: shipped_profile(name).digest for kind, name in kinds.items()}
    return json.dumps(document, indent=1) + "\n"


def checksums() -> str:
    """Give SHA256SUMS of every file in the folder of the standard's tables."""
    files = sorted(path for path in FOLDER.iterdir() if path.name != "SHA256SUMS")
    return "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files)


def main(arguments: list[str] | None = None) -> int:
    """Write or check; return 1 where a file is out of date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS, nargs="?")
    parser.add_argument("--wheel", type=Path, help=f"path of {WHEEL}")
    parser.add_argument("--check", action="store_true", help="write nothing")
    given = parser.parse_args(arguments)
    part = given.part or "all"
    outputs: list[tuple[Path, str]] = []
    if part in ("all", "annex"):
        outputs.append((FOLDER / "annex_e.json", annex()))
    if part in ("all", "types") and given.wheel:
        outputs.append((FOLDER / "iod_types.json", types(given.wheel)))
    stale = [_settle(path, text, given.check) for path, text in outputs]
    if part in ("all", "annex", "types"):
        stale.append(_settle(FOLDER / "SHA256SUMS", checksums(), given.check))
    if part in ("all", "conformance"):
        target = ROOT / "deid" / "CONFORMANCE.md"
        stale.append(_settle(target, conformance.markdown(), given.check))
    if part in ("all", "digests"):
        target = ROOT / "coordinator" / "client" / "templates" / "deid_profiles.json"
        stale.append(_settle(target, digests(), given.check))
    return int(any(stale))


def _settle(path: Path, text: str, check: bool) -> bool:
    """Write a file unless only checking; say whether it was out of date."""
    if path.is_file() and path.read_text("utf-8") == text:
        return False
    if check:
        print(f"out of date: {path.relative_to(ROOT)}")
        return True
    path.write_text(text, "utf-8")
    return False


if __name__ == "__main__":
    sys.exit(main())
