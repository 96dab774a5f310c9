"""What does a name, digest, key or time look like in any document?"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from schemas import limits

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def format_time(moment: datetime) -> str:
    """Write a moment as RFC 3339 in UTC, whole seconds.

    Args:
        moment: An aware datetime; parts below one second are cut off.

    Raises:
        ValueError: The datetime has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone has no meaning here")
    return moment.astimezone(UTC).strftime(_TIME_FORMAT)


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time in UTC of whole seconds, the only form used here.

    Raises:
        ValueError: Any other form, or a date that does not exist.
    """
    refusal = "a time is written YYYY-MM-DDThh:mm:ssZ and must exist"
    try:
        moment = datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(refusal) from None  # the library's own sentence quotes the value
    if format_time(moment) != text:
        raise ValueError(refusal)
    return moment


def _checked_time(text: str) -> str:
    parse_time(text)
    return text


def _checked_text(text: str) -> str:
    if unicodedata.normalize("NFC", text) != text:
        raise ValueError("text must be in Unicode normal form C")
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co"} for character in text):
        raise ValueError("text must not hold control or invisible characters")
    if text != text.strip():
        raise ValueError("text must not begin or end with a space")
    return text


_NAME_PATTERN = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"

SiteId = Annotated[str, StringConstraints(pattern=_NAME_PATTERN, max_length=40)]
"""Short name of a hospital in one consortium: lower-case words joined by hyphens."""

StudyId = Annotated[str, StringConstraints(pattern=_NAME_PATTERN, max_length=40)]
"""Short name of a study: lower-case words joined by hyphens."""

ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]
"""Name of a table column as it stands in the extract's header."""

Code = Annotated[str, AfterValidator(_checked_text), StringConstraints(min_length=1, max_length=64)]
"""One value of a category, as text."""

EventName = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", max_length=64)
]
"""Dotted lower-case words: an audit event, a reason code."""

Name = Annotated[
    str,
    AfterValidator(_checked_text),
    StringConstraints(min_length=1, max_length=limits.MAX_NAME_CHARACTERS),
]
"""One line that people read; any script, normal form C, nothing invisible."""

Text = Annotated[
    str,
    AfterValidator(_checked_text),
    StringConstraints(min_length=1, max_length=limits.MAX_TEXT_CHARACTERS),
]
"""A paragraph that people read; no line breaks."""

Timestamp = Annotated[str, StringConstraints(max_length=20), AfterValidator(_checked_time)]
"""RFC 3339 in UTC, whole seconds: 2026-11-22T18:00:00Z."""

HexBytes32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""32 bytes in lower-case hexadecimal: a SHA-256 digest, an Ed25519 or X25519 public key."""

HexBytes64 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
"""64 bytes in lower-case hexadecimal: an Ed25519 signature."""

Digest = HexBytes32
"""SHA-256 of some bytes."""

Url = Annotated[
    str,
    StringConstraints(
        pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/\-]*)?$",
        max_length=limits.MAX_URL_CHARACTERS,
    ),
]
"""An http or https address without user, query or fragment."""

Pem = Annotated[
    str,
    StringConstraints(
        pattern=r"^-----BEGIN [A-Z ]+-----\n[A-Za-z0-9+/=\n]+-----END [A-Z ]+-----\n$",
        max_length=limits.MAX_CERTIFICATE_BYTES,
    ),
]
"""One PEM block with Unix line ends."""
