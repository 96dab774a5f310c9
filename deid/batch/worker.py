"""How does one worker process turn files into clean files, one after another?

A worker gets the hospital's secret over its pipe, never on a command line. It writes clean files
under temporary names; the parent, which alone keeps the journal, gives them their own. Its error
output is closed: what decoders print there may quote a file.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core a worker; more would fight each other

from deid.batch.chosen import choose_profile
from deid.batch.files import write_file
from deid.batch.journal import Detail, Entry, Pixels, moved
from deid.batch.marks import Marks
from deid.batch.messages import Done, Job, Setup, setting_of
from deid.batch.sources import read_source
from deid.dicom import MAX_FILE_BYTES, CleanObject, DicomDeidentifier
from deid.errors import DeidRefusal
from deid.pseudonym import Pseudonymiser
from deid.report import DeidReport
from schemas.errors import ErrorCode

_NAME_CHARS = 8  # 40 bits of base32: two contents under one UID do not meet
_PART = re.compile(r"[0-9A-Za-z][0-9A-Za-z.\-]{0,63}")


class Worker:
    """Clean one file after another."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._marks = Marks(setup.secret, setup.project)
        self._report = DeidReport()
        profile = choose_profile(setup.profile)
        if profile.digest != setup.digest:
            raise DeidRefusal(ErrorCode.DEID_PROFILE_INVALID)  # changed since the run began
        detector = None
        if setup.detects_text:
            from deid.pixels import TextDetector

            detector = TextDetector.load()
        self._setting = setting_of(setup)
        pseudonyms = Pseudonymiser(setup.secret, setup.project)
        self._uid = pseudonyms.uid if profile.keep_uids else str  # kept UIDs name no file
        self._cleaner = DicomDeidentifier(
            profile,
            pseudonyms,
            self._report,
            detector=detector,
            accept_faces=setup.accept_faces,
        )

    def do(self, job: Job) -> Done:
        """Clean one file; never raises for what is in it."""
        raw, stamp = read_source(job.path, MAX_FILE_BYTES)
        mark = self._marks.stamp(stamp)
        if isinstance(raw, ErrorCode):
            return self._set_aside(job, mark, "", raw)
        content = self._marks.content(raw)
        if job.known is not None and job.known.content == content:
            return Done(job.number, moved(job.known, mark))
        self._report.actions.clear()
        try:
            clean = self._cleaner.clean(raw)
            output = _output_name(clean, self._uid, content)
        except DeidRefusal as refusal:
            return self._set_aside(job, mark, content, refusal.code)
        detail = Detail(
            modality=clean.modality,
            actions={str(kind): count for kind, count in sorted(self._report.actions.items())},
            notes=tuple(sorted(set(clean.notes))),
            pixels=_pixels(clean),
        )
        entry = Entry(
            job.source, mark, content, output, len(clean.raw), None, self._setting, detail
        )
        temporary = Path(self._setup.temporary) / f"{job.number}.dcm"
        try:
            write_file(temporary, clean.raw)
        except OSError as error:
            return Done(job.number, None, disk_error=error.errno or errno.EIO)
        return Done(job.number, entry, str(temporary))

    def _set_aside(self, job: Job, stamp: str, content: str, code: ErrorCode) -> Done:
        entry = Entry(job.source, stamp, content, code=code, setting=self._setting)
        return Done(job.number, entry)


def _output_name(clean: CleanObject, uid: Callable[[str], str], content: str) -> str:
    """Give the clean file's path: pseudonyms, new UIDs and a keyed tag of the raw bytes.

    Raises:
        DeidRefusal: one of them is no name for a file.
    """
    parts = (clean.patient, uid(clean.study), uid(clean.uid))
    if not all(_PART.fullmatch(part) for part in parts):
        raise DeidRefusal(ErrorCode.DICOM_OUTPUT_INVALID)
    return f"{parts[0]}/{parts[1]}/{parts[2]}-{content[:_NAME_CHARS]}.dcm"


def _pixels(clean: CleanObject) -> Pixels | None:
    seen = clean.pixels
    if seen is None:
        return None
    return Pixels(
        frames=seen.frames,
        examined=seen.examined,
        detected=seen.detected,
        ruled=seen.ruled,
        removed=round(float(seen.removed_fraction), 6),
        why=seen.why,
        outside_text=round(float(seen.outside_text), 6),
    )


def work(connection: Connection) -> None:
    """Serve one parent until it hangs up; the first message is the setup."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is the one that is interrupted
    if os.environ.get("COHORTIUM_DEBUG") != "1":
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        worker = Worker(connection.recv())
        gc.freeze()  # word lists and tables stay: looking through them again costs a tenth
        connection.send(None)  # ready
        while True:
            connection.send(worker.do(connection.recv()))
    except (EOFError, BrokenPipeError):
        return  # the parent is gone: so is the run
