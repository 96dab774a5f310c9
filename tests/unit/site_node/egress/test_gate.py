"""The only door: every rule broken on purpose, and nothing passes unwritten."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from schemas.errors import CohortiumError, ErrorCode, InternalError, PolicyDenied
from schemas.evaluation import evaluation_length
from schemas.governance.study import StudyPlan
from schemas.secagg.site import Party, make_ready
from schemas.signing import Context, seal
from schemas.wire import (
    Close,
    Final,
    FinalReply,
    ReadyReply,
    Refusal,
    ReleaseReply,
    SumTag,
    Upload,
    encode,
)
from site_node.context import SiteContext
from site_node.egress import Released, gate
from site_node.egress.preview import what_leaves
from site_node.governance.ledger import ChargeRef
from tests.support.sites import real_plan, sealed

Kind = Literal["train", "evaluate"]


@dataclass(frozen=True)
class Part:
    """One object on the wire."""

    id: str
    sha256: str
    n_bytes: int


def parts(*bodies: bytes) -> list[Part]:
    return [Part(h, h, len(b)) for b in bodies for h in [hashlib.sha256(b).hexdigest()]]


def upload(plan: StudyPlan, *, words: int | None = None, **fields: Any) -> bytes:
    values: dict[str, Any] = {
        "plan_digest": plan.digest(),
        "kind": "train",
        "round": 0,
        "attempt": 0,
        "tag": "0" * 16,
        **fields,
    }
    length = plan.model.parameters if words is None else words
    return encode(Upload(**values), b"\x07" * (4 * length))


def charge(site: SiteContext, plan: StudyPlan, kind: Kind = "train", number: int = 0) -> ChargeRef:
    return site.charge(plan, kind, number, 0, plan.site_ids)


def final(site: SiteContext, plan: StudyPlan) -> bytes:
    statement = Final(
        plan_digest=plan.digest(),
        site_id=site.config.site_id,
        steps=10,
        model_hash="ab" * 32,
        last_sum_hash="cd" * 32,
    )
    return encode(FinalReply(final=seal(site.keys.identity, Context.FINAL, statement)))


def denied(code: ErrorCode, site: SiteContext, act: Callable[[], object]) -> None:
    """Refused with this code, written to the audit log, and nothing released."""
    before = site.db.rows("SELECT * FROM released")
    with pytest.raises(PolicyDenied) as caught:
        act()
    assert caught.value.code is code
    assert site.db.rows("SELECT * FROM released") == before
    last = site.audit.rows(last=1)[0].event
    assert (last.event, last.attributes["code"]) == ("egress.refused", code.value)


def test_a_charged_update_is_released_written_and_listed(
    site: SiteContext, approved: StudyPlan
) -> None:
    body = upload(approved)
    released = site.gate.release(
        "masked-update", body, plan=approved, contributors=3, charge=charge(site, approved)
    )
    assert released.body == body
    event = site.audit.rows(last=1)[0].event
    assert event.attributes["sha256"] == hashlib.sha256(body).hexdigest()
    objects = parts(b"envelope", b"record")
    assert not site.manifest.is_listed(objects[0].id)
    site.gate.manifest(released, objects)
    assert all(site.manifest.is_listed(each.id) for each in objects)
    assert not site.manifest.is_listed("00" * 32)


def test_only_the_gate_makes_a_released() -> None:
    with pytest.raises(TypeError):
        Released(1, "masked-update", "", b"", object())


def test_a_kind_the_plan_does_not_list_is_kept(sites: list[SiteContext]) -> None:
    plan = real_plan(sites, outputs=["model-hash", "refusal"])
    site = sites[0]
    site.approvals.approve(sealed(plan), plan.digest())
    reference = charge(site, plan)
    body = upload(plan)
    for kind in ("masked-update", "gradients", ""):
        denied(
            ErrorCode.EGRESS_KIND_REFUSED,
            site,
            lambda kind=kind: site.gate.release(
                kind, body, plan=plan, contributors=3, charge=reference
            ),
        )


@pytest.mark.parametrize("kind", ["masked-evaluation", "model-hash", "release"])
def test_bytes_of_another_kind_are_kept(site: SiteContext, approved: StudyPlan, kind: str) -> None:
    reference = charge(site, approved)
    denied(
        ErrorCode.EGRESS_KIND_REFUSED,
        site,
        lambda: site.gate.release(
            kind, upload(approved), plan=approved, contributors=3, charge=reference
        ),
    )


def test_an_upload_that_names_another_plan_is_kept(site: SiteContext, approved: StudyPlan) -> None:
    reference = charge(site, approved)
    body = upload(approved, plan_digest="ab" * 32)
    denied(
        ErrorCode.EGRESS_KIND_REFUSED,
        site,
        lambda: site.gate.release(
            "masked-update", body, plan=approved, contributors=3, charge=reference
        ),
    )


@pytest.mark.parametrize("words", [0, 4, 6])
def test_a_wrong_length_is_kept(site: SiteContext, approved: StudyPlan, words: int) -> None:
    reference = charge(site, approved)
    denied(
        ErrorCode.EGRESS_SIZE_WRONG,
        site,
        lambda: site.gate.release(
            "masked-update",
            upload(approved, words=words),
            plan=approved,
            contributors=3,
            charge=reference,
        ),
    )


def test_an_evaluation_has_its_own_exact_length(site: SiteContext, approved: StudyPlan) -> None:
    reference = charge(site, approved, "evaluate")
    length = evaluation_length(approved.evaluation.bins)
    for words in (length - 1, length + 1):
        denied(
            ErrorCode.EGRESS_SIZE_WRONG,
            site,
            lambda words=words: site.gate.release(
                "masked-evaluation",
                upload(approved, kind="evaluate", words=words),
                plan=approved,
                contributors=3,
                charge=reference,
            ),
        )
    site.gate.release(
        "masked-evaluation",
        upload(approved, kind="evaluate", words=length),
        plan=approved,
        contributors=3,
        charge=reference,
    )


def test_trailing_bytes_are_not_a_message(site: SiteContext, approved: StudyPlan) -> None:
    reference = charge(site, approved)
    with pytest.raises(CohortiumError) as caught:
        site.gate.release(
            "masked-update",
            upload(approved) + b"row 17",
            plan=approved,
            contributors=3,
            charge=reference,
        )
    assert caught.value.code is ErrorCode.MESSAGE_MALFORMED


def test_a_request_of_the_coordinator_is_not_an_answer(
    site: SiteContext, approved: StudyPlan
) -> None:
    body = encode(
        Close(
            plan_digest=approved.digest(),
            approvals=(),
            last=SumTag(round=0, attempt=0, tag="0" * 16),
        )
    )
    with pytest.raises(CohortiumError) as caught:
        site.gate.release("model-hash", body, plan=approved, contributors=1)
    assert caught.value.code is ErrorCode.MESSAGE_OUT_OF_ORDER


def test_too_few_hospitals_are_kept(site: SiteContext, approved: StudyPlan) -> None:
    reference = charge(site, approved)
    denied(
        ErrorCode.EGRESS_TOO_FEW,
        site,
        lambda: site.gate.release(
            "masked-update", upload(approved), plan=approved, contributors=2, charge=reference
        ),
    )


def test_an_update_without_its_own_durable_charge_is_kept(
    site: SiteContext, approved: StudyPlan
) -> None:
    real = charge(site, approved)
    other = charge(site, approved, number=1)
    invented = dataclasses.replace(real, index=77)
    for reference in (None, other, invented, dataclasses.replace(real, attempt=1)):
        denied(
            ErrorCode.EGRESS_NOT_CHARGED,
            site,
            lambda reference=reference: site.gate.release(
                "masked-update", upload(approved), plan=approved, contributors=3, charge=reference
            ),
        )


def test_an_attempt_is_answered_once(site: SiteContext, approved: StudyPlan) -> None:
    reference = charge(site, approved)
    site.gate.release(
        "masked-update", upload(approved), plan=approved, contributors=3, charge=reference
    )
    denied(
        ErrorCode.EGRESS_ALREADY_RELEASED,
        site,
        lambda: site.gate.release(
            "masked-update",
            upload(approved, tag="1" * 16),
            plan=approved,
            contributors=3,
            charge=reference,
        ),
    )


def test_a_stop_holds_back_what_is_not_yet_released(site: SiteContext, approved: StudyPlan) -> None:
    reference = charge(site, approved)
    site.approvals.stop(approved.digest())
    denied(
        ErrorCode.EGRESS_STOPPED,
        site,
        lambda: site.gate.release(
            "masked-update", upload(approved), plan=approved, contributors=3, charge=reference
        ),
    )
    body = final(site, approved)
    denied(
        ErrorCode.EGRESS_STOPPED,
        site,
        lambda: site.gate.release("model-hash", body, plan=approved, contributors=1),
    )


def test_a_stop_holds_back_what_is_released_and_listed(
    site: SiteContext, approved: StudyPlan
) -> None:
    released = site.gate.release(
        "masked-update", upload(approved), plan=approved, contributors=3,
        charge=charge(site, approved),
    )  # fmt: skip
    listed, late = parts(b"envelope"), parts(b"record")
    site.gate.manifest(released, listed)
    assert site.manifest.is_listed(listed[0].id)
    report = site.approvals.stop(approved.digest())
    assert (report.sent, report.held_back) == ((), 1)
    assert not site.manifest.is_listed(listed[0].id)
    with pytest.raises(PolicyDenied) as caught:
        site.gate.manifest(released, late)
    assert caught.value.code is ErrorCode.EGRESS_STOPPED
    assert not site.manifest.is_listed(late[0].id)


def test_a_stop_that_comes_between_the_look_and_the_wire_still_holds_back(
    site: SiteContext, approved: StudyPlan
) -> None:
    """The gateway looks, a stop returns, the gateway records: nothing may be sent any more."""
    released = site.gate.release(
        "masked-update", upload(approved), plan=approved, contributors=3,
        charge=charge(site, approved),
    )  # fmt: skip
    listed = parts(b"envelope")
    site.gate.manifest(released, listed)
    assert site.manifest.is_listed(listed[0].id)
    assert site.approvals.stop(approved.digest()).held_back == 1
    with pytest.raises(PolicyDenied) as caught:
        site.manifest.record("/v1/fleet/push-messages", 900, listed[0].id)
    assert caught.value.code is ErrorCode.EGRESS_STOPPED
    site.manifest.flush()
    assert site.manifest.totals() == {}
    assert site.db.rows("SELECT * FROM sent") == []


def test_a_stop_says_which_uploads_were_sent(site: SiteContext, approved: StudyPlan) -> None:
    for number in (0, 1):
        released = site.gate.release(
            "masked-update", upload(approved, round=number), plan=approved, contributors=3,
            charge=charge(site, approved, number=number),
        )  # fmt: skip
        objects = parts(f"envelope {number}".encode())
        site.gate.manifest(released, objects)
        if number == 0:
            site.manifest.record("/v1/fleet/push-messages", 900, objects[0].id)
    report = site.approvals.stop(approved.digest())
    assert [(x.round, x.attempt) for x in report.sent] == [(0, 0)]
    assert report.held_back == 1


def test_a_refusal_passes_even_after_a_stop_but_holds_a_code_only(
    site: SiteContext, approved: StudyPlan
) -> None:
    site.approvals.stop(approved.digest())
    code = ErrorCode.PLAN_STOPPED
    body = encode(Refusal(code=code.value))
    released = site.gate.refuse(body, code=code, plan_digest=approved.digest())
    site.gate.manifest(released, parts(body))
    assert site.manifest.is_listed(parts(body)[0].id)
    for wrong in (
        encode(Refusal(code=ErrorCode.PLAN_EXPIRED.value)),
        encode(Refusal(code=code.value), "홍길동".encode()),
        upload(approved),
        "홍길동".encode(),
    ):
        with pytest.raises(CohortiumError):
            site.gate.refuse(wrong, code=code)


def test_announcements_and_results_pass(site: SiteContext, approved: StudyPlan) -> None:
    party = Party(site.config.site_id, site.keys.identity, site.keys.study)
    ready, _secrets = make_ready(
        party, approved, kind="train", round=0, attempt=0, model_hash="ab" * 32,
        last_sum_hash="00" * 32, ledger_head=site.ledger.head(), ledger_charges=0, entropy=_zeros,
    )  # fmt: skip
    for body in (encode(ReadyReply(ready=ready)), final(site, approved)):
        site.gate.release("model-hash", body, plan=approved, contributors=1)
    reply = encode(ReleaseReply(site_id="site-1", signature="00" * 64), b"{}")
    site.gate.release("release", reply, plan=approved, contributors=3)
    other = encode(ReleaseReply(site_id="site-2", signature="00" * 64), b"{}")
    denied(
        ErrorCode.EGRESS_KIND_REFUSED,
        site,
        lambda: site.gate.release("release", other, plan=approved, contributors=3),
    )
    big = encode(ReleaseReply(site_id="site-1", signature="00" * 64), b" " * 70_000)
    denied(
        ErrorCode.EGRESS_SIZE_WRONG,
        site,
        lambda: site.gate.release("release", big, plan=approved, contributors=3),
    )


def _zeros(n_bytes: int, /) -> bytes:
    """Entropy for a test that looks at sizes only."""
    return b"\x01" * n_bytes


def test_refusals_are_announced_even_by_a_plan_that_does_not_list_them(
    sites: list[SiteContext],
) -> None:
    plan = real_plan(sites, outputs=["masked-update", "model-hash"])
    kinds = [line.kind for line in what_leaves(plan)]
    assert kinds == ["masked-update", "model-hash", "refusal"]


def test_nothing_is_larger_than_plan_show_promised(site: SiteContext, approved: StudyPlan) -> None:
    party = Party(site.config.site_id, site.keys.identity, site.keys.study)
    ready, _secrets = make_ready(
        party, approved, kind="train", round=11, attempt=3, model_hash="ab" * 32,
        last_sum_hash="cd" * 32, ledger_head=site.ledger.head(), ledger_charges=0, entropy=_zeros,
    )  # fmt: skip
    promised = {line.kind: line.bytes_each for line in what_leaves(approved)}
    body = upload(approved, next_ready=ready, round=11, attempt=3)
    assert promised["masked-update"] - 1200 < len(body) <= promised["masked-update"]
    assert len(encode(ReadyReply(ready=ready))) <= promised["model-hash"]
    assert len(final(site, approved)) <= promised["model-hash"]


def test_an_unwritable_log_releases_nothing(
    site: SiteContext, approved: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = charge(site, approved)
    released = site.gate.release(
        "masked-update", upload(approved), plan=approved, contributors=3, charge=reference
    )

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("site_node.governance.audit.write_atomically", full)
    code = ErrorCode.PLAN_STOPPED
    for act in (
        lambda: site.gate.refuse(encode(Refusal(code=code.value)), code=code),
        lambda: site.gate.release("model-hash", final(site, approved), plan=approved,
                                  contributors=1),
        lambda: charge(site, approved, number=1),
    ):  # fmt: skip
        with pytest.raises(InternalError) as caught:
            act()
        assert caught.value.code is ErrorCode.AUDIT_UNAVAILABLE
    # A listing bears no witness of its own; it is refused where the database cannot be written.
    site.db._connection().execute("PRAGMA query_only = ON")
    with pytest.raises(InternalError) as caught:
        site.gate.manifest(released, parts(b"x"))
    assert caught.value.code is ErrorCode.AUDIT_UNAVAILABLE


def test_a_forged_manifest_row_is_not_listed(site: SiteContext, approved: StudyPlan) -> None:
    released = site.gate.release(
        "masked-update", upload(approved), plan=approved, contributors=3,
        charge=charge(site, approved),
    )  # fmt: skip
    objects = parts(b"envelope")
    site.gate.manifest(released, objects)
    stranger = "ab" * 32
    with site.db.write() as connection:
        connection.execute(
            "INSERT INTO manifest SELECT ?, released_id, sha256, n_bytes, signature FROM manifest",
            (stranger,),
        )
    assert site.manifest.is_listed(objects[0].id)
    assert not site.manifest.is_listed(stranger)


def test_bytes_are_counted_for_every_path(site: SiteContext) -> None:
    for _ in range(3):
        site.manifest.record("/v1/fleet/pull-messages", 40, None)
    site.manifest.record("/v1/fleet/push-messages", 500, "ab" * 32)
    site.manifest.flush()
    assert site.manifest.totals() == {
        "/v1/fleet/pull-messages": (3, 120),
        "/v1/fleet/push-messages": (1, 500),
    }


def test_nobody_but_the_gate_reaches_for_the_seal() -> None:
    root = Path(gate.__file__).parents[1]
    reaching = re.compile(r"released import [^\n]*\b_(release|SEAL)\b|released\._(release|SEAL)")
    users = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if reaching.search(path.read_text("utf-8"))
    }
    assert users == {"egress/gate.py"}
