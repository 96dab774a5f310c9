"""How does a real DICOM file become one that identifies an invented patient in every place it can?

`inject` takes a file's bytes and gives them back with identity planted everywhere PS3.15 Annex E
names and in many places it does not (`deid_places`, `deid_hidden`, `deid_streams`, `deid_burn`),
and a ledger of what was planted. The transfer syntax stays. All by seed: the same call, the same
bytes.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pydicom
from pydicom import config
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from tests.support.deid_burn import burn_lines
from tests.support.deid_bytes import value_holds
from tests.support.deid_hidden import plant_hidden
from tests.support.deid_ledger import Ledger
from tests.support.deid_people import Person
from tests.support.deid_places import plant_header
from tests.support.deid_score_parts import by_tags, flatten
from tests.support.deid_streams import plant_after_pixels, plant_in_code_streams


class CannotInject(ValueError):
    """The file cannot be read and written again as it is: it is passed on untouched."""


@contextmanager
def lenient() -> Iterator[None]:
    """Let pydicom read and write what is not quite right, silently."""
    settings = config.settings
    before = settings.reading_validation_mode, settings._writing_validation_mode
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    settings.reading_validation_mode = config.IGNORE
    settings.writing_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode, settings._writing_validation_mode = before
        logger.setLevel(level)


def read(raw: bytes) -> FileDataset:
    """Read leniently, without deferring anything."""
    return pydicom.dcmread(io.BytesIO(raw), force=True)


def to_bytes(dataset: Dataset) -> bytes:
    """Write a data set in the syntax it came in, with or without file meta."""
    stream = io.BytesIO()
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if syntax is None:
        implicit, little = dataset.original_encoding
        dataset.save_as(stream, implicit_vr=bool(implicit), little_endian=bool(little))
    else:
        dataset.save_as(
            stream,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax != ExplicitVRBigEndian,
        )
    return stream.getvalue()


def inject(
    raw: bytes,
    who: Person,
    patient: str,
    seed: str,
    *,
    days: int = 0,
    lines: int = 0,
    share: float = 0.75,
) -> tuple[bytes, Ledger]:
    """Give the file with ``who`` in it, and the ledger.

    Args:
        raw: a whole DICOM file.
        who: the identity.
        patient: the ledger's name for this person, the same in all the person's files.
        seed: decides which of the many places are used in this file.
        days: how long after the person's first study this one was made.
        lines: how many lines of text to burn into the pixels; 0 leaves them alone.
        share: how many of the places are used.

    Raises:
        CannotInject: the file does not survive reading and writing.
    """
    rng = random.Random(f"inject {seed}")
    ledger = Ledger(patient)
    with lenient():
        try:
            dataset = read(raw)
            dataset.decode()
            dataset.walk(lambda _item, _element: None)  # nothing stays raw
        except Exception as problem:
            raise CannotInject(str(problem)) from problem
        klass = str(dataset.get("SOPClassUID", ""))
        ledger.may_be_refused = not klass.startswith("1.2.840.10008.5.")
        ledger.says_burned_in = str(dataset.get("BurnedInAnnotation")) == "YES"
        try:
            plant_header(dataset, who, ledger, rng, days=days, share=share)
            plant_hidden(dataset, who, ledger, rng, share=share)
            if lines:
                burn_lines(dataset, who, ledger, rng, lines)
            plant_in_code_streams(dataset, who, ledger, rng)
            plant_after_pixels(dataset, who, ledger, rng)
            written = to_bytes(dataset)
            _forget_what_is_not_there(ledger, read(written))
        except Exception as problem:
            raise CannotInject(f"{type(problem).__name__}: {problem}") from problem
    ledger.secrets.extend(who.secrets())
    ledger.secrets = list(dict.fromkeys(ledger.secrets))
    return written, ledger


def _forget_what_is_not_there(ledger: Ledger, dataset: Dataset) -> None:
    """Keep in the ledger only what a reader finds: a VR's length or character set may cut text."""
    tags = by_tags(flatten(dataset))
    found = []
    for each in ledger.planted:
        if not each.path:
            found.append(each)
            continue
        values = tags.get(each.path, [])
        gone = tuple(text for text in each.gone if value_holds(values, text))
        kept = tuple(word for word in each.kept if value_holds(values, word))
        if gone or kept or not (each.gone or each.kept):
            found.append(dataclasses.replace(each, gone=gone, kept=kept))
    ledger.planted = found
