"""Why was one record refused by de-identification? A code only; never a value."""

from __future__ import annotations

from schemas.errors import DataRejected, ErrorCode


class DeidRefusal(DataRejected):
    """Refuse one record; the pipeline turns the code into a quarantine entry.

    Neither sentence nor traceback message carries anything out of the record: it is raised
    ``from None``, because the text of a data library's exception may quote a patient's name.
    """

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code, code.meaning, hint="The record is quarantined; see its raw file.")
