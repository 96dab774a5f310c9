"""What can go wrong, who must act, and which exit code says so?

Every error carries one code of the table in `schemas/codes.py`, and only the code crosses the wire.
The sentence is public and holds no data; ``detail`` stays local.
"""

from __future__ import annotations

from typing import ClassVar

from schemas.codes import ErrorCode

__all__ = [
    "BudgetExceeded",
    "CohortiumError",
    "ConfigError",
    "DataRejected",
    "ErrorCode",
    "InternalError",
    "PolicyDenied",
    "ProtocolError",
    "TransportError",
    "TrustError",
]


class CohortiumError(Exception):
    """An error a person or a peer is told about.

    Args:
        code: Stable code; the only part that may cross the wire.
        sentence: What happened, public, without data.
        hint: What to do about it, public.
        detail: Local only; never sent, never shown outside this machine.
    """

    exit_code: ClassVar[int] = 9

    def __init__(self, code: ErrorCode, sentence: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        """Give sentence, hint and code; never the local detail."""
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.sentence}{hint} [{self.code}]"


class ConfigError(CohortiumError):
    """The person at the keyboard must change a setting, a file or a command."""

    exit_code = 2


class TrustError(CohortiumError):
    """A key, signature, certificate or approval is not what it must be."""

    exit_code = 3


class PolicyDenied(CohortiumError):
    """The hospital's or the plan's rules say no."""

    exit_code = 4


class DataRejected(CohortiumError):
    """The hospital's data do not fit and must be corrected there."""

    exit_code = 5


class BudgetExceeded(CohortiumError):
    """The privacy budget does not cover it."""

    exit_code = 6


class ProtocolError(CohortiumError):
    """A peer sent something the protocol does not allow at this point."""

    exit_code = 7


class TransportError(CohortiumError):
    """The network or the other side is not available."""

    exit_code = 8


class InternalError(CohortiumError):
    """We, or this machine, are at fault."""

    exit_code = 9
