"""Does a study that was interrupted go on, whoever was away and however much is to catch up?"""

from __future__ import annotations

import pytest

from coordinator import calls
from coordinator.rounds import StudyEnded
from schemas.errors import ErrorCode
from schemas.wire import Close, CohortCall, Open, Refusal, Result, Upload, decode, encode
from tests.support.by_hand import REPLIES
from tests.support.consortium import memory_consortium

REQUESTS = (Open, CohortCall, Close, Result)


def test_a_hospital_that_comes_back_late_does_not_change_the_evaluations_roster(tmp_path) -> None:
    """Away when the model was signed, it is no member of the one evaluation, and so stays out."""
    consortium = memory_consortium(tmp_path, training={"steps": 2, "average_from_step": 1})
    troubled = True

    def fault(site, raw, honest):
        header = decode(raw, allowed=REQUESTS).header
        if troubled and isinstance(header, Close) and site == "site-4":
            return None
        body = honest(raw)
        if (
            troubled
            and isinstance(header, CohortCall)
            and (header.kind, site) == ("evaluate", "site-3")
        ):
            consortium.offline.add(site)
            return None
        return body

    consortium.fault = fault
    with pytest.raises(StudyEnded):
        consortium.study_run().run()
    troubled = False
    consortium.offline.clear()
    consortium.study_run().run()
    evaluations = [entry for entry in consortium.book.attempts if entry[0] == "evaluate"]
    assert [entry[3] for entry in evaluations] == [("site-1", "site-2", "site-3")] * 2
    assert consortium.book.release is not None


@pytest.mark.parametrize("sums_in_one", [1, 3])
def test_more_sums_than_fit_one_message_come_in_several(
    tmp_path, monkeypatch: pytest.MonkeyPatch, sums_in_one: int
) -> None:
    """A coordinator that restarted does not know what the sites hold, and sends them everything."""
    consortium = memory_consortium(tmp_path, training={"steps": 8, "average_from_step": 4})
    longest = 0

    class Cut(Exception):
        """The coordinator goes down."""

    def fault(site, raw, honest):
        nonlocal longest
        header = decode(raw, allowed=REQUESTS).header
        if isinstance(header, Open | Close):
            longest = max(longest, len(header.missing))
        if isinstance(header, CohortCall) and (header.round, header.attempt) == (6, 0):
            raise Cut
        return honest(raw)

    consortium.fault = fault
    with pytest.raises(Cut):
        consortium.study_run().run()
    consortium.book.attempts[-1] = (*consortium.book.attempts[-1][:4], "internal.process_ended")
    words = 4 * consortium.plan.model.parameters
    monkeypatch.setattr(calls, "_MAX_PART_BYTES", words * sums_in_one)
    # One site has lost what it held of the later rounds as well: it takes part after part.
    consortium.study_run().run()
    assert consortium.book.release is not None
    assert longest == sums_in_one
    assert len({consortium.standing(site).model_hash for site in consortium.sites}) == 1


def test_without_parts_the_message_outgrows_its_limit(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the parts are for: everything at once is refused by every site, every time."""
    consortium = memory_consortium(tmp_path, training={"steps": 8, "average_from_step": 4})
    consortium.study_run().run()
    run = consortium.study_run()
    monkeypatch.setattr(calls, "_MAX_PART_BYTES", 1 << 40)
    whole = run._calls.closing(["site-1"])["site-1"]
    monkeypatch.setattr(calls, "_MAX_PART_BYTES", 1)
    part = run._calls.closing(["site-1"])["site-1"]
    assert len(decode(whole, allowed=REQUESTS).blobs) == 8
    assert len(decode(part, allowed=REQUESTS).blobs) == 2


@pytest.mark.parametrize("round_", [0, 1, 2], ids=["first", "middle", "last"])
def test_one_wrong_answer_costs_attempts_and_not_the_study(tmp_path, round_: int) -> None:
    """SECAGG-11: the coordinator cannot see a wrong tag; every site refuses the sum."""
    consortium = memory_consortium(tmp_path, training={"steps": 3, "average_from_step": 1})
    done = False

    def fault(site, raw, honest):
        nonlocal done
        header = decode(raw, allowed=REQUESTS).header
        body = honest(raw)
        if isinstance(header, CohortCall) and header.kind == "train" and not done:
            frame = decode(body, allowed=REPLIES)
            if site == "site-2" and header.round == round_ and isinstance(frame.header, Upload):
                done = True
                wrong = f"{int(frame.header.tag, 16) ^ 1:016x}"
                return encode(frame.header.model_copy(update={"tag": wrong}), *frame.blobs)
        return body

    consortium.fault = fault
    consortium.study_run().run()
    book = consortium.book
    assert book.release is not None
    trained = [entry[1:3] for entry in book.attempts if entry[0] == "train"]
    assert (round_, 1) in trained, "its round was repeated"
    assert len(trained) <= 5
    assert len({consortium.standing(site).model_hash for site in consortium.sites}) == 1
    for site in consortium.sites:
        assert consortium.charged(site) == 4, "three rounds and the one that was in vain"


def test_a_sum_that_never_was_is_not_taken_back(tmp_path) -> None:
    """Every site says of the first round that its sum was altered; there is none before it."""
    consortium = memory_consortium(
        tmp_path, training={"steps": 3, "average_from_step": 1, "retry_cap": 1}
    )

    def fault(_site, raw, honest):
        if isinstance(decode(raw, allowed=REQUESTS).header, CohortCall):
            return encode(Refusal(code=ErrorCode.SUM_ALTERED.value))
        return honest(raw)

    consortium.fault = fault
    run = consortium.study_run()
    with pytest.raises(StudyEnded) as ended:
        run.run()
    assert ended.value.code is ErrorCode.STUDY_RETRIES_SPENT
    assert len(run._sums) == 0
    assert {entry[1] for entry in consortium.book.attempts} == {0}


def test_a_hospital_restored_from_an_old_copy_does_not_end_the_others_study(tmp_path) -> None:
    """Its peers would refuse every cohort it is in, until no retry is left."""
    consortium = memory_consortium(
        tmp_path / "c", 5, training={"steps": 5, "average_from_step": 2, "retry_cap": 1}
    )
    copied = False

    def fault(site, raw, honest):
        nonlocal copied
        header = decode(raw, allowed=REQUESTS).header
        if isinstance(header, CohortCall) and header.kind == "train":
            if header.round == 1 and not copied:
                consortium.back_up("site-5", tmp_path / "old.db")
                copied = True
            if (header.round, site) == (3, "site-5"):
                consortium.put_back("site-5", tmp_path / "old.db")
        return honest(raw)

    consortium.fault = fault
    consortium.study_run().run()
    book = consortium.book
    trained = [entry for entry in book.attempts if entry[0] == "train"]
    assert sum(bool(entry[4]) for entry in trained) == 1, "only the attempt it was restored in"
    assert all("site-5" not in entry[3] for entry in book.attempts[4:])
    assert book.release is not None
