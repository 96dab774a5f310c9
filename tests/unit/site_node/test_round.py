"""Does every request get exactly one released answer, and are the steps in their order?"""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from schemas.signing import Context, seal
from schemas.wire import Final, ReadyReply, Refusal, Upload, decode
from site_node import round as site_round
from site_node.egress.preview import what_leaves
from site_node.egress.released import Released
from site_node.training import dp_sgd, sampling
from tests.support.by_hand import REPLIES, Hand, unharmed
from tests.support.consortium import memory_consortium


@pytest.fixture(scope="module")
def trio(tmp_path_factory) -> Hand:
    """Three sites, two steps, many retries."""
    folder = tmp_path_factory.mktemp("trio")
    terms = {"steps": 2, "average_from_step": 1, "retry_cap": 12}
    return Hand(memory_consortium(folder, n_sites=3, training=terms))


def watch(monkeypatch, owner, name: str, log: list[str]) -> None:
    honest = getattr(owner, name)

    def spy(*arguments, **more):
        log.append(name)
        return honest(*arguments, **more)

    monkeypatch.setattr(owner, name, spy)


def test_nothing_is_computed_before_the_charge_and_nothing_leaves_but_by_the_gate(
    trio, monkeypatch
) -> None:
    attempt = trio.fresh()
    readies = trio.readies(0, attempt)
    site = trio.consortium.sites["site-1"]
    log: list[str] = []
    watch(monkeypatch, site_round, "join_cohort", log)
    watch(monkeypatch, site, "charge", log)
    watch(monkeypatch, sampling, "poisson_mask", log)
    watch(monkeypatch, dp_sgd, "clipped_integer_sum", log)
    watch(monkeypatch, dp_sgd, "noised_update", log)
    watch(monkeypatch, site_round, "masked_upload", log)
    watch(monkeypatch, site.gate, "release", log)
    trio.upload("site-1", trio.cohort(readies.values(), 0, attempt))
    assert log == [
        "join_cohort",
        "charge",
        "poisson_mask",
        "clipped_integer_sum",
        "noised_update",
        "masked_upload",
        "release",
    ]


def test_noise_is_drawn_for_the_cohort_the_site_saw(trio, monkeypatch) -> None:
    attempt = trio.fresh()
    readies = trio.readies(0, attempt)
    sizes = []
    honest = dp_sgd.noised_update

    def spy(plan, terms, clipped, cohort_size, entropy):
        sizes.append(cohort_size)
        return honest(plan, terms, clipped, cohort_size, entropy)

    monkeypatch.setattr(dp_sgd, "noised_update", spy)
    trio.upload("site-2", trio.cohort(readies.values(), 0, attempt))
    assert sizes == [3]


def test_an_upload_holds_words_a_tag_and_the_next_ready_and_nothing_else(trio) -> None:
    attempt = trio.fresh()
    readies = trio.readies(0, attempt)
    frame = trio.ask("site-1", trio.cohort(readies.values(), 0, attempt))
    upload = frame.header
    assert isinstance(upload, Upload)
    assert [len(blob) for blob in frame.blobs] == [4 * trio.consortium.plan.model.parameters]
    assert upload.next_ready is not None
    following = upload.next_ready.ready
    assert (following.round, following.attempt, following.site_id) == (1, 0, "site-1")
    assert set(Upload.model_fields) == {
        "message", "version", "plan_digest", "kind", "round", "attempt", "tag", "next_ready",
        "blobs",
    }  # fmt: skip


def test_no_ready_travels_with_the_last_upload(tmp_path) -> None:
    terms = {"steps": 1, "average_from_step": 1}
    hand = Hand(memory_consortium(tmp_path, n_sites=3, training=terms))
    readies = hand.readies(0, 0)
    frame = hand.ask("site-1", hand.cohort(readies.values(), 0, 0))
    assert isinstance(frame.header, Upload)
    assert frame.header.next_ready is None


def test_an_answer_is_sealed_by_the_gate(trio) -> None:
    rounds = trio.consortium.rounds["site-1"]
    ready = rounds.answer(trio.open(0, trio.fresh()))
    refusal = rounds.answer(b"nonsense")
    assert isinstance(ready, Released)
    assert isinstance(refusal, Released)
    assert isinstance(decode(ready.body, allowed=REPLIES).header, ReadyReply)
    assert decode(refusal.body, allowed=REPLIES).header == Refusal(code="message.malformed")


def test_a_refusal_is_written_to_the_audit_log_with_its_code(trio) -> None:
    site = trio.consortium.sites["site-1"]
    trio.refusal("site-1", trio.open(9, 0))
    newest = site.audit.rows(last=1)[0].event
    assert newest.event == "egress.released"
    assert newest.attributes["kind"] == "refusal"
    assert newest.attributes["code"] == "round.unknown"
    assert newest.plan_digest == trio.consortium.digest


def test_a_refusal_names_its_code_in_the_operational_log(trio) -> None:
    with capture_logs() as entries:
        trio.refusal("site-1", trio.open(9, 0))
    assert entries[-1]["event"] == "request.refused"
    assert entries[-1]["code"] == "round.unknown"


def test_the_secrets_of_a_ready_are_erased_whether_the_cohort_is_good_or_bad(trio) -> None:
    for good in (True, False):
        attempt = trio.fresh()
        readies = trio.readies(0, attempt)
        session = trio.consortium.rounds["site-3"]._sessions[trio.consortium.digest]
        secrets = session.issued["train"][1]
        members = list(readies.values()) if good else [readies["site-3"]]
        trio.ask("site-3", trio.cohort(members, 0, attempt))
        assert secrets._ephemeral is None


def test_a_final_statement_of_another_plan_is_no_signature_on_this_model(tmp_path) -> None:
    terms = {"steps": 1, "average_from_step": 1}
    hand = Hand(memory_consortium(tmp_path, n_sites=3, training=terms))
    signed = hand.finals(hand.train()[-1])
    key = hand.consortium.sites["site-3"].keys.identity
    own = Final.model_validate_json(signed["site-3"].payload_bytes())
    for change in ({"plan_digest": "ab" * 32}, {"site_id": "site-2"}, {"model_hash": "ab" * 32}):
        bent = seal(key, Context.FINAL, own.model_copy(update=change))
        finals = (signed["site-1"], signed["site-2"], bent)
        with unharmed(hand.consortium):
            request = hand.open(0, 0, "evaluate", finals=finals)
            assert hand.refusal("site-1", request) == "round.state_mismatch"


def test_the_evaluation_is_repeated_no_more_often_than_plan_show_says(tmp_path) -> None:
    terms = {"steps": 1, "average_from_step": 1, "retry_cap": 1}
    hand = Hand(memory_consortium(tmp_path, n_sites=3, training=terms))
    finals = tuple(hand.finals(hand.train()[-1]).values())
    promised = {line.kind: line.at_most for line in what_leaves(hand.consortium.plan)}
    assert promised["masked-evaluation"] == 2
    assert hand.readies(0, 1, "evaluate", finals=finals)
    with unharmed(hand.consortium):
        request = hand.open(0, 2, "evaluate", finals=finals)
        assert hand.refusal("site-1", request) == "round.unknown"


def test_a_close_without_its_sum_is_refused(trio) -> None:
    from schemas.wire import Close, SumTag, encode

    last = SumTag(round=1, attempt=0, tag="00" * 8)
    request = encode(Close(plan_digest=trio.consortium.digest, approvals=(), last=last))
    with unharmed(trio.consortium):
        assert trio.refusal("site-1", request) == "sum.missing"
