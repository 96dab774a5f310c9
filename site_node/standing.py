"""Where does this site stand in a study: which model does it hold, and after which sums?

A `Standing` is what survives a restart: the optimiser state after applying the sums of rounds
0 … rounds−1, the preparation's among them, and the hashes it signs in READY. Keys and masks are not
part of it; they live in memory only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.canonical import Document, HexBytes32, parse
from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import StudyPlan
from schemas.limits import MAX_HEADER_BYTES
from schemas.models import OptimiserState, apply_sum, state_hash

NO_SUM = "0" * 64


class _Header(Document):
    """The fixed-size part of a stored standing."""

    plan_digest: HexBytes32
    rounds: int = Field(ge=0)
    model_hash: HexBytes32
    sum_hash: HexBytes32
    earlier_model_hash: HexBytes32
    earlier_sum_hash: HexBytes32


@dataclass(frozen=True, slots=True)
class Standing:
    """Model and history of one site in one study.

    Attributes:
        rounds: number n of sums applied, that of a preparation included; the state is M_n.
        state: M_n; its own `step` counts what was applied to the model, without the preparation.
        model_hash: hash of the optimiser state M_n.
        sum_hash: hash of the sum of round n−1, `NO_SUM` before the first.
        earlier_model_hash: hash of M_(n−1) (before the first: of M_0), signed in READY of round n.
        earlier_sum_hash: hash of the sum of round n−2.
    """

    plan_digest: str
    rounds: int
    state: OptimiserState
    model_hash: str
    sum_hash: str
    earlier_model_hash: str
    earlier_sum_hash: str

    @classmethod
    def initial(cls, plan: StudyPlan, digest: str, state: OptimiserState) -> Standing:
        """Stand at the plan's initial weights."""
        first = state_hash(state)
        return cls(digest, 0, state, first, NO_SUM, first, NO_SUM)

    def ready_hashes(self, round_: int) -> tuple[str, str]:
        """Return (model hash, last sum hash) to sign in the READY of `round_`.

        READY of round r binds what a site knew when it sent the upload of round r−1: M_(r−1) and
        the sum of round r−2.

        Raises:
            ProtocolError: SITE_BEHIND when sums are missing, MESSAGE_OUT_OF_ORDER when the round
                lies in the past.
        """
        if round_ == self.rounds:
            return self.earlier_model_hash, self.earlier_sum_hash
        if round_ == self.rounds + 1:
            return self.model_hash, self.sum_hash
        if round_ > self.rounds + 1:
            raise ProtocolError(ErrorCode.SITE_BEHIND, "Sums of earlier rounds are missing here.")
        raise ProtocolError(ErrorCode.MESSAGE_OUT_OF_ORDER, "The round is already over here.")

    def expects(self, round_: int, given_hash: str) -> bool:
        """Say whether the sum of `round_` is still to be applied; False if it already was.

        Raises:
            ProtocolError: SUM_MISMATCH for a second, different sum of the last round;
                SITE_BEHIND or MESSAGE_OUT_OF_ORDER for any other round.
        """
        if round_ == self.rounds:
            return True
        if round_ == self.rounds - 1:
            if given_hash != self.sum_hash:
                raise ProtocolError(
                    ErrorCode.SUM_MISMATCH, "A second, different sum arrived for the same round."
                )
            return False
        if round_ > self.rounds:
            raise ProtocolError(ErrorCode.SITE_BEHIND, "Sums of earlier rounds are missing here.")
        raise ProtocolError(ErrorCode.MESSAGE_OUT_OF_ORDER, "The round is already over here.")

    def summed(self, values: NDArray[np.int64], given_hash: str, plan: StudyPlan) -> Standing:
        """Apply the checked sum of the next round: the preparation's, or one optimiser step.

        Args:
            values: of shape (words,), as many as the plan says for that round.
            given_hash: of the sum as it was sent.
            plan: the approved plan.
        """
        state = apply_sum(self.state, values, plan)
        return Standing(
            plan_digest=self.plan_digest,
            rounds=self.rounds + 1,
            state=state,
            model_hash=state_hash(state),
            sum_hash=given_hash,
            earlier_model_hash=self.model_hash,
            earlier_sum_hash=self.sum_hash,
        )

    def to_bytes(self) -> bytes:
        """Encode for the site's own journal (never leaves the site)."""
        header = _Header(
            plan_digest=self.plan_digest,
            rounds=self.rounds,
            model_hash=self.model_hash,
            sum_hash=self.sum_hash,
            earlier_model_hash=self.earlier_model_hash,
            earlier_sum_hash=self.earlier_sum_hash,
        ).canonical()
        return struct.pack(">I", len(header)) + header + self.state.to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Standing:
        """Decode what `to_bytes` wrote."""
        (length,) = struct.unpack(">I", raw[:4])
        header = parse(_Header, raw[4 : 4 + length], max_bytes=MAX_HEADER_BYTES)
        return cls(
            header.plan_digest,
            header.rounds,
            OptimiserState.from_bytes(raw[4 + length :]),
            header.model_hash,
            header.sum_hash,
            header.earlier_model_hash,
            header.earlier_sum_hash,
        )
