"""What does this site sign and reveal so that a sum survives the loss of some hospitals?

Training in recoverable mode only (SECAGG-13, -14). After the uploads of an attempt the coordinator
names those that arrived; this site signs one such list, ever. Shown enough signatures under that
very list, it reveals once what unmasks the sum of exactly those hospitals: a share of each
survivor's self-mask, its pair seed with each lost one, never both for one hospital. Both answers
pass the egress gate, so a stop between two of these steps holds back whatever is still to come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.recovery import confirm_survivors, reveal
from schemas.wire import Confirmation, SurvivorsCall, UnmaskCall, Unmasking, encode
from site_node.session import note_time

if TYPE_CHECKING:
    from schemas.secagg.site import CohortKeys
    from site_node.egress.released import Released
    from site_node.session import StudySession


def confirm(session: StudySession, call: SurvivorsCall) -> Released:
    """Sign the list of survivors, if it is the first of its attempt and large enough.

    Raises:
        ProtocolError: RECOVERY_NOT_OFFERED, ATTEMPT_UNKNOWN (also after a restart), or what
            `confirm_survivors` finds wrong with the list.
        PolicyDenied: the gate keeps it back.
    """
    keys = _keys_of(session, call.round, call.attempt)
    signature = confirm_survivors(keys, session.party, session.plan, call.uploads)
    body = encode(
        Confirmation(
            plan_digest=session.digest,
            round=call.round,
            attempt=call.attempt,
            site_id=session.site.config.site_id,
            signature=signature,
        )
    )
    released = session.site.gate.release(
        "survivor-confirmation",
        body,
        plan=session.plan,
        contributors=len(call.uploads),
        charge=session.charges.get("train"),
    )
    note_time("survivors.confirmed", session.digest, "train", call.round, call.attempt)
    return released


def unmask(session: StudySession, call: UnmaskCall) -> Released:
    """Reveal what unmasks the sum of the survivors this site signed for; once, then forget it.

    Raises:
        ProtocolError: RECOVERY_NOT_OFFERED, ATTEMPT_UNKNOWN (also after a restart),
            CONFIRMATIONS_TOO_FEW, RECOVERY_DONE.
        PolicyDenied: the gate keeps it back; the secrets are gone all the same.
    """
    keys = _keys_of(session, call.round, call.attempt)
    revealed = reveal(keys, session.plan, call.confirmations)
    body = encode(
        Unmasking(
            plan_digest=session.digest,
            round=call.round,
            attempt=call.attempt,
            site_id=session.site.config.site_id,
            shares=dict(revealed.shares),
            seeds=dict(revealed.seeds),
        )
    )
    released = session.site.gate.release(
        "unmasking",
        body,
        plan=session.plan,
        contributors=len(revealed.shares),
        charge=session.charges.get("train"),
    )
    note_time("sum.unmasked", session.digest, "train", call.round, call.attempt)
    return released


def _keys_of(session: StudySession, round_: int, attempt: int) -> CohortKeys:
    """Find the secrets of a training attempt; they live in memory and only here.

    Raises:
        ProtocolError: RECOVERY_NOT_OFFERED or ATTEMPT_UNKNOWN.
    """
    if not session.plan.is_recoverable:
        raise ProtocolError(
            ErrorCode.RECOVERY_NOT_OFFERED,
            "This plan's sums come whole or not at all.",
            hint="A lost hospital voids the attempt; the coordinator must open another.",
        )
    held = session.keys.get("train")
    if held is None or held[:2] != (round_, attempt):
        raise ProtocolError(
            ErrorCode.ATTEMPT_UNKNOWN,
            "This site holds no secrets of that attempt.",
            hint="After a restart they are gone for good; a new attempt is needed.",
        )
    return held[2]
