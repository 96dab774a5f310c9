"""Does a folder of clean files, whoever kept it meanwhile, still hold what the profile promises?

Every DICOM file is read again and held against the profile. With the input and the key, each clean
file is also searched for everything that was removed from the file it came from, its name included.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from deid.batch.chosen import Key
from deid.batch.findings import EXAMPLES, Findings
from deid.batch.journal import Entry, Index
from deid.batch.marks import Marks
from deid.batch.output import STATE
from deid.batch.sources import Item, read_source, walk
from deid.dicom import MAX_FILE_BYTES, removed_values
from deid.profile import Profile
from deid.rules import Rulebook
from deid.verification import compile_needles, search, verify_output
from schemas.errors import ConfigError, ErrorCode

_NO_NEEDLES = compile_needles(())


def check_folder(
    output: Path,
    profile: Profile,
    *,
    source: Path | None = None,
    key: Key | None = None,
    project: str = "",
    progress: Callable[[Findings], None] | None = None,
) -> Findings:
    """Examine an output folder; nothing is changed.

    Args:
        output: the folder.
        profile: what it must keep to.
        source: the input it came from; needs `key`.
        key: the hospital's secret.
        project: the project that was named to `run`.
        progress: called after each file.

    Raises:
        ConfigError: a folder is missing, or the key is not the one of the run.
    """
    found, say = Findings(), progress or (lambda _found: None)
    if not output.is_dir():
        raise ConfigError(
            ErrorCode.SOURCE_MISSING, "The output folder does not exist.", hint="Check its path."
        )
    rulebook = Rulebook(profile)
    for item in _clean_files(output):
        raw, _ = read_source(item.path, MAX_FILE_BYTES)
        if isinstance(raw, ErrorCode):
            found.files += 1
            found.blame(item.relative, ["unreadable"])
        elif raw[128:132] != b"DICM":
            found.n_others += 1
            if len(found.others) < EXAMPLES:
                found.others.append(item.relative)
        else:
            found.files += 1
            found.bytes += len(raw)
            rules = rulebook.for_class(_class_of(raw))
            if faults := verify_output(raw, rules, profile, _NO_NEEDLES):
                found.blame(item.relative, [fault.kind for fault in faults], faults[0].tag)
        say(found)
    index = Index(output / STATE)
    try:
        for entry in index.entries():
            if entry.output and index.hold(entry.output):  # once each: copies share a file
                found.missing += not _is_there(output, entry)
        if source is not None and key is not None:
            marks = Marks(key.secret, project)
            _compare(found, output, profile, rulebook, source, marks, index, say)
    finally:
        index.close()
    return found


def _compare(
    found: Findings,
    output: Path,
    profile: Profile,
    rulebook: Rulebook,
    source: Path,
    marks: Marks,
    index: Index,
    say: Callable[[Findings], None],
) -> None:
    """Search each clean file for what its input lost."""
    for item in walk(source):
        entry = index.old(marks.path(item.relative))
        if entry is None:
            found.not_run += 1
            continue
        if not entry.output:
            continue
        raw, _ = read_source(item.path, MAX_FILE_BYTES)
        clean, _ = read_source(str(output / entry.output), MAX_FILE_BYTES)
        if isinstance(clean, ErrorCode):
            continue  # counted as missing
        if isinstance(raw, ErrorCode) or marks.content(raw) != entry.content:
            found.not_run += 1  # the input is another one now
            continue
        removed = removed_values(profile, raw)
        needles = compile_needles(removed)
        found.compared += 1
        found.patterns += len(removed)
        name = entry.output.encode("utf-8") + b"\n"
        rules = rulebook.for_class(_class_of(clean))
        faults = verify_output(clean, rules, profile, needles)
        is_left = any(fault.kind == "identifier" for fault in faults)
        if is_left or search(needles, name):
            found.blame(entry.output, ["identifier"])
        say(found)
    if not found.compared and found.not_run:
        raise ConfigError(
            ErrorCode.DEID_OUTPUT_OTHER,
            "No file of the input is known in this output folder.",
            hint="Name the input, the --key-file and the --project that `run` was given.",
        )


def _is_there(output: Path, entry: Entry) -> bool:
    try:
        return os.stat(output / entry.output, follow_symlinks=False).st_size == entry.size
    except OSError:
        return False


def _clean_files(output: Path) -> Iterator[Item]:
    for item in walk(output):
        if not item.relative.startswith(f"{STATE}/"):
            yield item


def _class_of(raw: bytes) -> str:
    """Give a file's SOP class from its file meta information; empty if it is not to be found."""
    at = 132
    for _ in range(16):  # group 2 has a dozen elements
        head = raw[at : at + 12]
        if len(head) < 12 or head[:2] != b"\x02\x00":
            return ""
        is_long = head[4:6] in (b"OB", b"UN", b"UT")
        size = struct.unpack("<I", head[8:12])[0] if is_long else struct.unpack("<H", head[6:8])[0]
        at += 12 if is_long else 8
        if head[2:4] == b"\x02\x00":
            return raw[at : at + size].rstrip(b"\x00 ").decode("ascii", "replace")
        at += size
    return ""
