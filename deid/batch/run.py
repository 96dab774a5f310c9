"""How does a whole folder become de-identified, from the first path to the last list?

1 check the places · 2 claim the output folder · 3 walk the input in order · 4 take over what an
earlier run did with untouched files, clean the others on worker processes · 5 for each small list
of results: journal, then names, then lists · 6 take away what nothing stands behind any more ·
7 put mapping, report and quarantine list in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deid.batch.chosen import Key, choose_profile, text_detection_installed
from deid.batch.files import refused
from deid.batch.journal import Entry, Journal
from deid.batch.lists import (
    DOES_NOT_PROVE,
    FACE_NOTE,
    PROVES,
    QuarantineList,
    ReportWriter,
    Totals,
)
from deid.batch.mapping import MappingWriter
from deid.batch.marks import Marks
from deid.batch.messages import Done, Job, Setup
from deid.batch.output import (
    Identity,
    OutputFolder,
    check_lists,
    check_places,
    product_version,
)
from deid.batch.pool import Pool, Ready, Task
from deid.batch.sources import Item, walk
from deid.profile import Profile
from schemas.errors import ConfigError, ErrorCode

DEFAULT_TIME_LIMIT_SECONDS = 1800.0  # a long ultrasound clip, looked at frame by frame
_TRIED_AGAIN = frozenset({ErrorCode.FILE_UNREADABLE, ErrorCode.INTERNAL_PROCESS_ENDED})
_FACES = frozenset({ErrorCode.DICOM_FACE_HEAD, ErrorCode.DICOM_FACE_UNSTATED})

Progress = Callable[[Totals], None]


@dataclass(frozen=True, slots=True)
class Order:
    """Say what is to be done.

    Attributes:
        source: a folder, or one file.
        output: the folder of clean files.
        profile: a shipped profile's name, or a path.
        key: the hospital's secret.
        project: pseudonyms differ by project.
        workers: processes that clean.
        accept_faces: the steward's reason for passing heads, or None.
        report: where the report goes; by default nowhere, or beside the output if faces are
            accepted, because the reason must stand somewhere.
        mapping: where the mapping goes, or None.
        mapping_plain: whether the mapping is written in clear.
        quarantine: where the quarantine list goes; by default beside the output.
        key_file: where the key came from, to keep it out of the output.
        time_limit_seconds: how long one file may take.
        detects_text: whether text detection is used; by default if it is installed.
        retry: whether files that an earlier run set aside are tried again.
    """

    source: Path
    output: Path
    profile: str
    key: Key
    project: str = ""
    workers: int = 1
    accept_faces: str | None = None
    report: Path | None = None
    mapping: Path | None = None
    mapping_plain: bool = False
    quarantine: Path | None = None
    key_file: Path = Path("/")
    time_limit_seconds: float = DEFAULT_TIME_LIMIT_SECONDS
    detects_text: bool | None = None
    retry: bool = False

    @property
    def report_path(self) -> Path | None:
        """Give where the report goes."""
        if self.report is None and self.accept_faces is not None:
            beside = self.output.resolve()
            return beside.with_name(f"{beside.name}.report.json")
        return self.report

    @property
    def quarantine_path(self) -> Path:
        """Give where the quarantine list goes."""
        beside = self.output.resolve()
        return self.quarantine or beside.with_name(f"{beside.name}.quarantine.csv")

    @property
    def lists(self) -> dict[str, Path | None]:
        """Give where each list goes, by its option; what goes beside the output is left out."""
        return {
            "--report": self.report,
            "--mapping": self.mapping,
            "--quarantine": self.quarantine,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """Say what a run did.

    Attributes:
        totals: the counts.
        report: the report's head, JSON-ready: everything but the entries of single files.
        quarantine: where the quarantine list is.
        taken_over: inputs that an earlier run had done already.
    """

    totals: Totals
    report: dict[str, Any]
    quarantine: Path
    taken_over: int


def run_batch(order: Order, progress: Progress | None = None) -> Outcome:
    """De-identify a folder or a file; the input is never changed, and no file stops the run.

    Running the same order again does only what is not done yet.

    Raises:
        ConfigError: the places overlap, the output belongs to another run, or the profile or the
            reason cannot be used.
        InternalError: the disk is full, or workers cannot be started.
    """
    reason = order.accept_faces
    if reason is not None and not reason.strip():
        raise ConfigError(
            ErrorCode.CONFIG_USAGE,
            "--accept-faces needs a reason.",
            hint="Write who decided and why; it is put into the report.",
        )
    profile = choose_profile(order.profile)
    if not profile.dicom:
        raise ConfigError(
            ErrorCode.CONFIG_USAGE,
            "The profile is for tables only.",
            hint="Name a profile with a [dicom] part, for example research.",
        )
    lists = [order.quarantine_path, *filter(None, (order.mapping,))]
    check_places(order.source, order.output, lists, order.key_file, order.report_path)
    check_lists(order.lists, order.key_file)
    next(walk(order.source), None)  # a source that is not there claims no folder
    marks = Marks(order.key.secret, order.project)
    identity = Identity(marks.run(), profile.name, profile.digest, product_version())
    folder = OutputFolder(order.output, identity)
    try:
        run = _Run(order, profile, folder, marks, progress or (lambda _totals: None))
        return run.do()
    finally:
        folder.close()


@dataclass(slots=True)
class _Pending:
    """Remember an input whose result is not written yet."""

    relative: str
    old_output: str
    is_ready: bool


@dataclass(slots=True)
class _Run:
    """Carry one run's tools and counts."""

    order: Order
    profile: Profile
    folder: OutputFolder
    marks: Marks
    progress: Progress
    totals: Totals = field(default_factory=Totals)
    taken_over: int = 0
    pending: dict[int, _Pending] = field(default_factory=dict)

    @property
    def detects_text(self) -> bool:
        if not self.profile.clean_pixels:
            return False
        asked = self.order.detects_text
        return text_detection_installed() if asked is None else asked

    def do(self) -> Outcome:
        order = self.order
        setup = Setup(
            profile=order.profile,
            digest=self.profile.digest,
            secret=order.key.secret,
            project=order.project,
            accept_faces=order.accept_faces,
            detects_text=self.detects_text,
            temporary=str(self.folder.temporary),
        )
        pool = Pool(setup, order.workers, order.time_limit_seconds)
        journal = Journal(self.folder.state)
        secret = None if order.mapping_plain else order.key.secret
        try:
            with (
                QuarantineList(order.quarantine_path) as quarantine,
                ReportWriter(order.report_path) as report,
                _mapping(order.mapping, secret) as mapping,
            ):
                for batch in pool.results(self._tasks(journal)):
                    self._keep(batch, journal, quarantine, report, mapping)
                    self.progress(self.totals)
                self._tidy(journal)
                head = self._head()
                if mapping is not None:
                    mapping.commit()
                report.commit(head)
                quarantine.commit()
        finally:
            journal.close()
        return Outcome(self.totals, head, order.quarantine_path, self.taken_over)

    def _tasks(self, journal: Journal) -> Iterator[Task]:
        """Give the input's files in order, those that need no work as already done."""
        for number, item in enumerate(walk(self.order.source)):
            source = self.marks.path(item.relative)
            old = journal.old(source)
            task = self._task(number, item, source, old)
            old_output = old.output if old is not None else ""
            is_ready = isinstance(task, Ready)
            self.pending[number] = _Pending(item.relative, old_output, is_ready)
            yield task

    def _task(self, number: int, item: Item, source: str, old: Entry | None) -> Task:
        if item.problem is not None:
            return Ready(number, Entry(source, "", code=item.problem))
        if old is None or not self._still_holds(old):
            return Job(number, item.path, source)
        if old.stamp == self.marks.stamp(item.stamp):
            self.taken_over += 1
            return Ready(number, old)
        return Job(number, item.path, source, known=old)

    def _still_holds(self, old: Entry) -> bool:
        """Tell whether this run would come to the same end with the same bytes."""
        if ("t" in old.setting) != self.detects_text:
            return False
        accepts = self.order.accept_faces is not None
        if old.code is not None:
            if self.order.retry or old.code in _TRIED_AGAIN:
                return False
            return not (accepts and old.code in _FACES)
        if FACE_NOTE in old.detail.notes and not accepts:
            return False
        return self.folder.has(old.output, old.size)

    def _keep(
        self,
        batch: list[Done],
        journal: Journal,
        quarantine: QuarantineList,
        report: ReportWriter,
        mapping: MappingWriter | None,
    ) -> None:
        """Write a list of results down: journal, then names, then lists."""
        known: list[tuple[_Pending, Entry, str]] = []
        for done in batch:
            if done.entry is None:
                raise refused(OSError(done.disk_error, ""))
            known.append((self.pending.pop(done.number), done.entry, done.temporary))
        entries = [entry for _, entry, _ in known]
        journal.append(entries, is_new=not all(pending.is_ready for pending, _, _ in known))
        self.folder.name((temporary, entry.output) for _, entry, temporary in known if temporary)
        for pending, entry, _ in known:
            if pending.old_output not in ("", entry.output):
                journal.drop(pending.old_output)
            if entry.code is not None:
                self.totals.add(entry, is_first=False)
                quarantine.add(pending.relative, entry.code)
                continue
            is_first = journal.hold(entry.output)
            self.totals.add(entry, is_first=is_first)
            if is_first:
                report.add(entry)
            if mapping is not None:
                mapping.add(pending.relative, entry.output)

    def _tidy(self, journal: Journal) -> None:
        """Keep what came from inputs that are gone; take away what changed inputs left behind."""
        for entry in journal.left_over():
            if entry.output and journal.hold(entry.output):
                journal.append([entry], is_new=False)
                self.totals.left_over += 1
        for output in journal.dropped():
            self.folder.remove(output)
        journal.finish()

    def _text_detection(self) -> str:
        if not self.profile.clean_pixels:
            return "not-in-profile"
        return "used" if self.detects_text else "not-installed"

    def _head(self) -> dict[str, Any]:
        held_back = sum(self.totals.quarantined[code] for code in _FACES)
        return {
            "report": 1,
            "product": "cohortium-deid",
            "version": product_version(),
            "profile": describe(self.profile),
            "text_detection": self._text_detection(),
            "faces": {
                "accepted": self.totals.faces,
                "held_back": held_back,
                "reason": self.order.accept_faces,
            },
            "proves": PROVES,
            "does_not_prove": DOES_NOT_PROVE,
            **self.totals.as_mapping(),
        }


def describe(profile: Profile) -> dict[str, Any]:
    """Give what a report says of a profile."""
    return {
        "name": profile.name,
        "title": profile.title,
        "sha256": profile.digest,
        "options": sorted(option.value for option in profile.options),
    }


def _mapping(
    path: Path | None, secret: bytes | None
) -> AbstractContextManager[MappingWriter | None]:
    return nullcontext() if path is None else MappingWriter(path, secret)
