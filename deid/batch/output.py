"""Whose is the output folder, and how does a clean file get its name in it?

The folder holds clean files and `.cohortium-deid/`: which key, profile and version it belongs to
(the key as a keyed digest only), the journal, a lock and, while a run goes on, files without a
name yet. Nothing in it points at an input file without the key.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from deid.batch.files import NewFile, refused, sync_folder
from deid.profile import Profile
from schemas.errors import ConfigError, ErrorCode

STATE = ".cohortium-deid"
_FORMAT = 1
_WORDS = {
    "format": "another version of the product",
    "version": "another version of the product",
    "profile": "another profile",
    "profile_sha256": "another state of the profile",
    "run": "another key or project",
}
_HINTS = {
    "profile": "To go on with it, name its --profile",
    "run": "To go on with it, name its --key-file and --project",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Say what a folder's content depends on, besides the input.

    Attributes:
        run: the keyed mark of key and project.
        profile: the profile's name.
        profile_sha256: its digest.
        version: the product's version.
        format: the state folder's.
    """

    run: str
    profile: str
    profile_sha256: str
    version: str = ""
    format: int = _FORMAT


def product_version() -> str:
    """Give the installed product's version."""
    return metadata.version("cohortium")


class OutputFolder:
    """Own an output folder for the time of one run.

    Args:
        root: the folder; made if it is missing.
        identity: what it must belong to.

    Raises:
        ConfigError: it holds something else, belongs to another key, profile or version, is in
            use by another run, or cannot be written.
    """

    def __init__(self, root: Path, identity: Identity) -> None:
        self.root = root
        self.state = root / STATE
        self.temporary = self.state / "unnamed"
        try:
            self._claim(identity)
        except OSError as error:
            raise refused(error) from None

    def _claim(self, identity: Identity) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        if not self.state.is_dir():
            if any(self.root.iterdir()):
                raise _other(
                    "The output folder is not empty and was not written by cohortium-deid."
                )
            self.state.mkdir(mode=0o700)
            sync_folder(self.root)
        self._lock = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise _other(
                "Another run is writing to the output folder now.", "Wait until it has ended"
            ) from None
        with ExitStack() as unless_claimed:
            unless_claimed.callback(os.close, self._lock)
            self._mark(asdict(identity))
            unless_claimed.pop_all()

    def _mark(self, mine: dict[str, object]) -> None:
        """Compare the folder's mark with ours, or set it; clear what a killed run left."""
        mark = self.state / "run.json"
        if mark.exists():
            _compare(mine, mark)
        else:
            file = NewFile(mark)
            file.write(json.dumps(mine, indent=1, sort_keys=True).encode("ascii") + b"\n")
            file.commit()
        # A worker of a killed run may still be about to write: it finds its folder gone.
        for stale in self.state.glob("unnamed-*"):
            shutil.rmtree(stale, ignore_errors=True)
        self.temporary = self.state / f"unnamed-{os.getpid()}"
        self.temporary.mkdir(mode=0o700)

    def close(self) -> None:
        """Let go of the folder."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        os.close(self._lock)

    def has(self, output: str, size: int) -> bool:
        """Tell whether a clean file is there with its size."""
        try:
            status = os.stat(self.root / output, follow_symlinks=False)
        except OSError:
            return False
        return status.st_size == size

    def name(self, files: Iterable[tuple[str, str]]) -> None:
        """Give complete files their names: pairs of temporary path and output path."""
        folders: set[Path] = set()
        try:
            for temporary, output in files:
                target = self.root / output
                if target.parent not in folders:
                    self._make(target.parent, folders)
                os.replace(temporary, target)
                folders.add(target.parent)
            for folder in folders:
                sync_folder(folder)
        except OSError as error:
            raise refused(error) from None

    def _make(self, folder: Path, to_sync: set[Path]) -> None:
        if folder.is_dir():
            return
        self._make(folder.parent, to_sync)
        folder.mkdir(exist_ok=True)
        to_sync.add(folder.parent)

    def remove(self, output: str) -> None:
        """Take a clean file away that nothing stands behind any more, and folders left empty."""
        path = self.root / output
        try:
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self.root or any(folder.iterdir()):
                    break
                folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            raise refused(error) from None


def other_profile(root: Path, profile: Profile) -> str | None:
    """Give the profile that a folder was written with; None if it is this one or not known."""
    try:
        mark = json.loads((root / STATE / "run.json").read_bytes())
        name, digest = str(mark["profile"]), mark["profile_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if digest == profile.digest else name


def check_places(
    source: Path, output: Path, outside: Sequence[Path], never: Path, report: Path | None = None
) -> None:
    """Refuse places that would mix what must stay apart.

    Args:
        source: the input.
        output: the output folder.
        outside: lists that must lie neither in the input nor in the output.
        never: the key file, which must lie neither in the output nor in the input.
        report: the report, which names no input and may lie in the output, but not in the input.

    Raises:
        ConfigError: they overlap.
    """
    raw, clean = source.resolve(), output.resolve()
    if output.exists() and not output.is_dir():
        raise _usage("The output is a file; it must be a folder.", "Name another folder.")
    if _within(clean, raw) or _within(raw, clean):
        raise _usage(
            "Input and output lie inside each other.",
            "Name an output folder that is neither in the input nor around it.",
        )
    if _within(never.resolve(), clean):
        raise _usage(
            "The key file lies in the output folder.",
            "Move it: whoever gets the output must not get the key.",
        )
    if _within(never.resolve(), raw):
        raise _usage(
            "The key file lies in the input.",
            "Move it: a file that others have, such as an image, is no key.",
        )
    for path in outside:
        if _within(path.resolve(), clean):
            raise _usage(
                "A list that stays with the hospital would lie in the output folder.",
                "Name a file outside it for --mapping and --quarantine.",
            )
    for path in filter(None, (*outside, report)):
        if _within(path.resolve(), raw):
            raise _usage(
                "A list would be written into the input, which is never changed.",
                "Name a file outside it for --mapping, --quarantine and --report.",
            )


def check_lists(lists: Mapping[str, Path | None], key_file: Path) -> None:
    """Refuse places where a list cannot be written, before a long run begins.

    Args:
        lists: each list's option and its path, None for a list that is not written.
        key_file: the key, which a slip of the keyboard must not replace.

    Raises:
        ConfigError: a list has no folder, is one, is the key, or shares a path with another list.
    """
    taken = {key_file.resolve(): "--key-file"}
    for option, path in lists.items():
        if path is None:
            continue
        place = path.resolve()
        if place in taken:
            raise _usage(f"{option} and {taken[place]} name the same file.", "Name another file.")
        taken[place] = option
        if place.is_dir():
            raise _usage(f"{option} names a folder.", "Name a file in it.")
        if not place.parent.is_dir():
            raise ConfigError(
                ErrorCode.CONFIG_FILE_UNWRITABLE,
                f"The folder that {option} names does not exist.",
                hint="Make it first, or name a file elsewhere.",
            )


def _within(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _compare(mine: dict[str, object], mark: Path) -> None:
    try:
        theirs = json.loads(mark.read_bytes())
        differing = [name for name in _WORDS if theirs.get(name) != mine[name]]
    except (ValueError, AttributeError):
        raise _other("The output folder's mark of its run cannot be read.") from None
    if "profile" in differing and "profile_sha256" in differing:
        differing.remove("profile_sha256")  # another profile has another digest
    if differing:
        words = " and ".join(dict.fromkeys(_WORDS[name] for name in differing))
        raise _other(f"The output folder was written with {words}.", _HINTS.get(differing[0], ""))


def _other(sentence: str, instead: str = "") -> ConfigError:
    new = "ame a new folder: clean files of different runs never mix."
    hint = f"{instead}, or n{new}" if instead else f"N{new}"
    return ConfigError(ErrorCode.DEID_OUTPUT_OTHER, sentence, hint=hint)


def _usage(sentence: str, hint: str) -> ConfigError:
    return ConfigError(ErrorCode.CONFIG_USAGE, sentence, hint=hint)
