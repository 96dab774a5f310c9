"""Which stand-in does a hospital's identifier get, and by how many days are its dates moved?

Everything is keyed with one secret the hospital holds (HMAC-SHA-256), so that a list of all
possible resident registration numbers (about 10^9) is of no use without the key (PS3.15 E.1.1 on
unkeyed hashes). The same secret and project serve DICOM and tables, so both still join; another
hospital's secret, or another project, gives unrelated pseudonyms.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import unicodedata
from datetime import date, timedelta

MIN_SECRET_BYTES = 32
MAX_SHIFT_DAYS = 365
_PATIENT_CHARS = 26  # 130 bits of base32: no collision among any hospital's patients
_ENCODED_BYTES = 20  # 32 characters of base32: enough for both
_RECORD_CHARS = 16  # 80 bits; the longest that DICOM's SH (16 characters) holds


class Pseudonymiser:
    """Give keyed pseudonyms, UIDs and date shifts of one hospital for one project.

    Args:
        secret: the hospital's de-identification secret, at least 32 bytes.
        project: the study the pseudonyms are for; another project is not linkable to it.

    Raises:
        ValueError: the secret is shorter than 32 bytes.
    """

    __slots__ = ("_key",)

    def __init__(self, secret: bytes, project: str = "") -> None:
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError("the de-identification secret must have at least 32 bytes")
        label = b"cohortium/v1/deid/project\x00" + project.encode("utf-8")
        self._key = hmac.new(secret, label, hashlib.sha256).digest()

    def __repr__(self) -> str:
        return "Pseudonymiser(…)"

    def patient(self, identifier: str) -> str:
        """Give the pseudonym of a patient number: "P" and 26 base32 characters (fits VR LO)."""
        return "P" + self._base32(b"patient", identifier)[:_PATIENT_CHARS]

    def record(self, identifier: str) -> str:
        """Give the pseudonym of an accession or record number: 16 characters (fits VR SH)."""
        return self._base32(b"record", identifier)[:_RECORD_CHARS]

    def uid(self, original: str) -> str:
        """Give the new UID of a DICOM UID: "2.25." and a 128-bit number (PS3.5 B.2)."""
        raw = bytearray(self._mac(b"uid", original)[:16])
        raw[6] = (raw[6] & 0x0F) | 0x80  # UUID version 8: made by rule, not by time or chance
        raw[8] = (raw[8] & 0x3F) | 0x80
        return f"2.25.{int.from_bytes(raw, 'big')}"

    def shift_days(self, patient_identifier: str) -> int:
        """Give the days (1 to 365) by which all of one patient's dates move into the past.

        One shift a patient keeps the intervals between that patient's records.
        """
        number = int.from_bytes(self._mac(b"shift", patient_identifier)[:8], "big")
        return 1 + number % MAX_SHIFT_DAYS

    def shift(self, day: date, patient_identifier: str) -> date:
        """Give a patient's date moved by that patient's shift; year 1 bounds it."""
        return day - timedelta(days=min(self.shift_days(patient_identifier), day.toordinal() - 1))

    def _mac(self, purpose: bytes, identifier: str) -> bytes:
        text = identifier.strip(" \t\r\n\x00")
        if not text.isascii():
            text = unicodedata.normalize("NFC", text)
        message = purpose + b"\x00" + text.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, message, "sha256")

    def _base32(self, purpose: bytes, identifier: str) -> str:
        return base64.b32encode(self._mac(purpose, identifier)[:_ENCODED_BYTES]).decode("ascii")
