"""Does any planted identifier stand anywhere outside the raw folders?

Searches every file of a demo or test run — databases, journals, logs, audit, what both gateways
sent in clear before TLS, the coordinator's files, the page — and the *decrypted* rows of every
site's store, in all encodings and with digits normalised. A deliberately planted control must be
found, or the search itself is broken.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from deid.residual import Hit, NeedleIndex
from site_node.context import open_site
from site_node.store import Store

_OVERLAP_BYTES = 512
_PIECE_BYTES = 16 << 20
_SHORT_ENCODINGS = ("utf-16", "euc-kr")
_AROUND_BYTES = 128  # on either side of a hit
_EVEN_VALUES = 128  # of 256 different ones: even bytes have 162 +- 7, text and tables under 100


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Where identifiers were found, and whether the planted control was."""

    places: tuple[str, ...]
    control_found: bool
    files: int
    n_bytes: int
    stores: int  # decrypted, not merely passed by


def load_needles(identifiers: Path) -> dict[str, list[str]]:
    """Read every planted value of `scripts.make_data`, by kind."""
    needles: dict[str, list[str]] = {}
    for row in json.loads(identifiers.read_text(encoding="utf-8"))["identifiers"]:
        needles.setdefault(row["kind"], []).append(row["value"])
    return needles


def search(
    root: Path,
    identifiers: Path,
    *,
    raw_folders: Iterable[Path],
    homes: Iterable[Path],
    extra: Mapping[str, bytes],
) -> SearchResult:
    """Search a run.

    Args:
        root: everything below it is searched, but for the raw folders and the list itself.
        identifiers: the list of planted values.
        raw_folders: where identifiers are allowed.
        homes: site homes whose stores are decrypted with their own keys and searched.
        extra: further bytes by name, such as the page.
    """
    needles = load_needles(identifiers)
    index = NeedleIndex([value for values in needles.values() for value in values])
    allowed = {folder.resolve() for folder in raw_folders} | {identifiers.resolve()}
    places: list[str] = []
    files = n_bytes = stores = 0
    for path in _files(root, allowed):
        files += 1
        n_bytes += path.stat().st_size
        places += _hits(index, str(path.relative_to(root)), _pieces(path))
    for home in homes:
        for name, raw in _decrypted(home):
            n_bytes += len(raw)
            stores += name.endswith(" rows")
            places += _hits(index, f"{home.name}: decrypted {name}", [raw])
    for name, raw in extra.items():
        places += _hits(index, name, [raw])
    return SearchResult(tuple(places), _control(index, root, needles), files, n_bytes, stores)


def _control(index: NeedleIndex, root: Path, needles: Mapping[str, list[str]]) -> bool:
    """Plant identifiers in several encodings where the search looks; each must be found."""
    name = next(value for value in needles["name"] if not value.isascii() and len(value) >= 3)
    number = needles["rrn"][0]
    spaced = " ".join(c for c in number if c.isdigit())
    planted = root / "positive-control.log"
    controls = ((name, "utf-8"), (name, "utf-16-le"), (number, "ascii"), (spaced, "ascii"))
    found = []
    for text, encoding in controls:
        planted.write_bytes(b"x" * 1000 + text.encode(encoding) + b"y" * 1000)
        found.append(bool(_hits(index, "control", _pieces(planted))))
    planted.unlink()
    return all(found)


def _files(root: Path, allowed: set[Path]) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        resolved = path.resolve()
        if resolved in allowed or any(folder in resolved.parents for folder in allowed):
            continue
        yield path


def _pieces(path: Path) -> Iterator[bytes]:
    """Read a file in overlapping pieces, so that nothing hides on a border."""
    tail = b""
    with path.open("rb") as source:
        while piece := source.read(_PIECE_BYTES):
            yield tail + piece
            tail = piece[-_OVERLAP_BYTES:]


def _hits(index: NeedleIndex, name: str, pieces: Iterable[bytes]) -> list[str]:
    found = {
        hit.encoding
        for piece in pieces
        for hit in index.search(piece)
        if not _by_chance(piece, hit)
    }
    return [f"{name} ({encoding})" for encoding in sorted(found)]


def _by_chance(raw: bytes, hit: Hit) -> bool:
    """Tell whether a hit in a short encoding lies in bytes as even as ciphertext's.

    A Korean name is six bytes there, and there are fifteen thousand of them: in 100 MB of
    ciphertext one "stands" with a chance of 1 in 200. In UTF-8 it has nine and always counts.
    """
    around = raw[max(0, hit.offset - _AROUND_BYTES) : hit.offset + _AROUND_BYTES]
    return hit.encoding.startswith(_SHORT_ENCODINGS) and len(set(around)) >= _EVEN_VALUES


def _decrypted(home: Path) -> Iterator[tuple[str, bytes]]:
    site = open_site(home)
    store = Store(site.folders.store, site.keys.store_kek)
    for received in site.inbox.plans():
        study = received.plan.study_id
        if not store.has(study):
            continue
        table = store.read(study)
        for column in table.column_names:
            values = table[column].to_pylist()
            joined = b"\n".join(v if isinstance(v, bytes) else str(v).encode() for v in values)
            yield f"{study}.{column}", joined
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        yield f"{study} rows", sink.getvalue().to_pybytes()
