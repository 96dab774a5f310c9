"""What do the parent and its workers say to each other?"""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection

from deid.batch.journal import Entry


@dataclass(frozen=True, slots=True)
class Setup:
    """Say how files are cleaned; sent to each worker when it starts.

    Attributes:
        profile: a shipped profile's name, or a path.
        digest: the digest that profile must have.
        secret: the hospital's secret.
        project: the project of the pseudonyms.
        accept_faces: the steward's reason for passing heads, or None.
        detects_text: whether text detection is to be loaded.
        temporary: the folder for files without their name yet.
    """

    profile: str
    digest: str
    secret: bytes
    project: str
    accept_faces: str | None
    detects_text: bool
    temporary: str

    def __repr__(self) -> str:
        return "Setup(…)"


@dataclass(frozen=True, slots=True)
class Job:
    """Hand one file to a worker.

    Attributes:
        number: its place in this run.
        path: its path.
        source: the mark of its relative path.
        known: what an earlier run did with the same bytes, if they are still the same.
    """

    number: int
    path: str
    source: str
    known: Entry | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """Tell the parent what became of a job.

    Attributes:
        number: the job's.
        entry: for the journal; None if the disk refused.
        temporary: the clean file waiting for its name; empty if there is none.
        disk_error: the system's error number if the disk refused.
    """

    number: int
    entry: Entry | None
    temporary: str = ""
    disk_error: int = 0


def setting_of(setup: Setup) -> str:
    """Give the letters of what decides besides profile and key: text detection, faces."""
    return ("t" if setup.detects_text else "") + ("f" if setup.accept_faces else "")


def start_worker(connection: Connection) -> None:
    """Be a worker process; the engine is imported there and not by the parent."""
    from deid.batch.worker import work

    work(connection)
