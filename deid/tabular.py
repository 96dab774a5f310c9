"""What is left of a table's row once every column off the keep-list is removed?

A row is a mapping of column to text. Kept cells pass as text and are typed by the contract that
comes after; free text never passes, because no free-text column can be on a contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from deid.actions import REMOVED, Kind
from deid.errors import DeidRefusal
from deid.profile import Profile
from deid.pseudonym import Pseudonymiser
from deid.report import DeidReport
from schemas.errors import ErrorCode

_MIN_NEEDLE = 6  # characters; shorter removed values (a sex, a count) occur in kept cells by chance


class TableDeidentifier:
    """De-identify the rows of one hospital's table for one project.

    Args:
        profile: the keep-list; its `table` part is used.
        pseudonymiser: the hospital's keyed pseudonyms.
        patient_column: the column with the patient's number; the profile must pseudonymise it.
        report: counts are added here.
    """

    def __init__(
        self,
        profile: Profile,
        pseudonymiser: Pseudonymiser,
        patient_column: str,
        report: DeidReport,
    ) -> None:
        self._rules = profile.table
        self._pseudonyms = pseudonymiser
        self._patient_column = patient_column
        self._report = report

    def clean(self, row: Mapping[str, str]) -> dict[str, str]:
        """De-identify one row.

        Raises:
            DeidRefusal: the row names no patient, or a removed value stands in a kept cell.
        """
        patient = row.get(self._patient_column, "").strip()
        if not patient:
            raise self._refusal(ErrorCode.PATIENT_MISSING)
        clean: dict[str, str] = {}
        removed: list[str] = []
        counts = self._report.actions
        for column, text in row.items():
            action = self._rules.get(column)
            if action is None:
                counts[REMOVED] += 1
                removed.append(text)
                continue
            counts[action.kind] += 1
            match action.kind:
                case Kind.KEEP:
                    clean[column] = text
                    continue
                case Kind.PATIENT:
                    clean[column] = self._pseudonyms.patient(text)
                case Kind.RECORD:
                    clean[column] = self._pseudonyms.record(text) if text.strip() else ""
                case Kind.SHIFT_DATE:
                    clean[column] = self._shift(text, patient)
                case _:  # no action of tables: the profile refuses it
                    continue
            removed.append(text)
        self._check_residual(clean, removed)
        self._report.records += 1
        return clean

    def _shift(self, text: str, patient: str) -> str:
        try:
            day = date.fromisoformat(text.strip().replace("/", "-").replace(".", "-"))
        except ValueError:
            return ""
        return self._pseudonyms.shift(day, patient).isoformat()

    def _check_residual(self, clean: Mapping[str, str], removed: list[str]) -> None:
        kept = "\x1f".join(clean[name] for name in clean if self._rules[name].kind is Kind.KEEP)
        for text in removed:
            needle = text.strip()
            if len(needle) >= _MIN_NEEDLE and needle in kept:
                raise self._refusal(ErrorCode.IDENTIFIER_LEFT)

    def _refusal(self, code: ErrorCode) -> DeidRefusal:
        self._report.refused[code] += 1
        return DeidRefusal(code)
