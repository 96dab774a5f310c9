"""Does every answer become a frame or that site's reason, and is patience kept?"""

from __future__ import annotations

import struct

import pytest

from coordinator.asking import Answer, Asker, Patience
from schemas.limits import MAX_ANSWER_HEADER_BYTES
from schemas.wire import Refusal, ReleaseReply, encode

GOOD = encode(ReleaseReply(site_id="site-1", signature="ef" * 64), b"bytes")


class World:
    """Sites that answer as told, and a clock."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.now = 0.0
        self.up = frozenset(answers)
        self.asked: list[tuple[frozenset, float]] = []

    def exchange(self, requests, *, timeout_seconds, is_enough=None):
        self.asked.append((frozenset(requests), timeout_seconds))
        return [(site, self.answers[site]) for site in requests if site in self.answers]

    def asker(self, **patience: float) -> Asker:
        return Asker(self.exchange, lambda: self.up, lambda: self.now, Patience(**patience))


def ask(world: World, *sites: str) -> tuple[dict, dict]:
    asker = world.asker()
    frames = asker.ask(dict.fromkeys(sites, b"?"), (ReleaseReply,), 5.0)
    return frames, asker.reasons


def test_a_good_answer_is_read() -> None:
    frames, reasons = ask(World(a=Answer(GOOD)), "a")
    assert frames["a"].blobs == (b"bytes",)
    assert reasons == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(None, "transport.timeout"), "transport.timeout"),
        (Answer(None), "site.unreachable"),
        (Answer(encode(Refusal(code="plan.stopped"))), "plan.stopped"),
        (Answer(b"nonsense"), "message.malformed"),
        (Answer(GOOD + b"x"), "message.malformed"),
        (Answer(GOOD.replace(b'"release"', b'"payload"')), "message.unknown"),
    ],
)
def test_anything_else_is_that_sites_reason(answer, reason) -> None:
    frames, reasons = ask(World(a=answer, b=Answer(GOOD)), "a", "b")
    assert set(frames) == {"b"}
    assert reasons == {"a": reason}


def test_a_refusal_is_no_answer_that_is_enough() -> None:
    """Else one site that says no would cut short another that is only slow."""
    refusal, good = Answer(encode(Refusal(code="cohort.ready_stale"))), Answer(GOOD)
    seen = []

    def exchange(requests, *, timeout_seconds, is_enough):
        for site, answer in (("a", refusal), ("b", good), ("c", good)):
            yield site, answer
            seen.append(is_enough())

    asker = Asker(exchange, lambda: frozenset("abc"), lambda: 0.0, Patience())
    asker.ask(dict.fromkeys("abc", b"?"), (ReleaseReply,), 5.0, 2)
    assert seen == [False, False, True]


def test_the_header_of_an_answer_is_short() -> None:
    """A header of nonsense costs some hundred times its size before it is refused."""
    fill = b"[]," * (MAX_ANSWER_HEADER_BYTES // 3)
    header = b'{"blobs":[' + fill + b'[]],"message":"release"}'
    frames, reasons = ask(World(a=Answer(struct.pack(">I", len(header)) + header)), "a")
    assert (frames, reasons) == ({}, {"a": "message.malformed"})


def test_a_message_that_was_not_asked_for_is_out_of_order() -> None:
    asker = World(a=Answer(GOOD)).asker()
    assert asker.ask({"a": b"?"}, (), 5.0) == {}
    assert asker.reasons == {"a": "message.out_of_order"}


def test_a_site_missing_from_the_answers_is_unreachable() -> None:
    _, reasons = ask(World(), "a")
    assert reasons == {"a": "site.unreachable"}


def test_nobody_is_asked_with_nothing() -> None:
    world = World()
    assert world.asker().ask({}, (ReleaseReply,), 5.0) == {}
    assert world.asked == []


def test_answers_are_handed_on_as_they_come() -> None:
    world, given = World(a=Answer(GOOD), b=Answer(b"nonsense"), c=Answer(GOOD)), []

    def exchange(requests, *, timeout_seconds, is_enough=None):
        for site in "cab":
            given.append(site)
            yield site, world.answers[site]

    asker = Asker(exchange, lambda: world.up, lambda: world.now, Patience())
    found = asker.answers(dict.fromkeys("abcd", b"?"), (ReleaseReply,), 5.0)
    assert next(found)[0] == "c"
    assert given == ["c"], "the next answer is not there before this one is done with"
    assert [site for site, _ in found] == ["a"]
    assert asker.reasons == {"b": "message.malformed", "d": "site.unreachable"}


def test_all_answers_together_come_in_the_order_of_the_requests() -> None:
    world = World(c=Answer(GOOD), a=Answer(GOOD), b=Answer(GOOD))
    asker = Asker(
        lambda requests, **_: world.answers.items(), lambda: world.up, lambda: 0.0, Patience()
    )
    assert list(asker.ask(dict.fromkeys("bca", b"?"), (ReleaseReply,), 5.0)) == ["b", "c", "a"]


def test_a_second_answer_of_a_site_and_one_nobody_asked_for_are_passed_over() -> None:
    answers = [("a", Answer(b"nonsense")), ("a", Answer(GOOD)), ("x", Answer(GOOD))]
    asker = Asker(lambda requests, **_: answers, frozenset, lambda: 0.0, Patience())
    assert asker.ask({"a": b"?"}, (ReleaseReply,), 5.0) == {}
    assert asker.reasons == {"a": "message.malformed"}


def test_a_reason_is_forgotten_when_the_site_answers() -> None:
    world = World(a=Answer(None, "transport.timeout"))
    asker = world.asker()
    asker.ask({"a": b"?"}, (ReleaseReply,), 5.0)
    world.answers["a"] = Answer(GOOD)
    asker.ask({"a": b"?"}, (ReleaseReply,), 5.0)
    assert asker.why(["a"]) == {"a": ""}


def test_only_sites_online_and_not_spared_are_invited() -> None:
    world = World(a=Answer(GOOD), b=Answer(GOOD))
    asker = world.asker(invite_seconds=20.0)
    assert asker.invitable(["a", "b", "c"]) == ["a", "b"]
    asker.spare(["a"])
    assert asker.invitable(["a", "b"]) == ["b"]
    world.now = 20.0
    assert asker.invitable(["a", "b"]) == ["a", "b"]


def test_why_tells_offline_from_not_yet_answered() -> None:
    world = World(a=Answer(GOOD))
    asker = world.asker()
    assert asker.why(["a", "b"]) == {"a": "", "b": "site.offline"}
    assert asker.reason_of("b") == "site.unreachable"


@pytest.mark.parametrize(
    ("rounds", "expected"), [([], 120.0), ([0.5], 30.0), ([5.0] * 9, 50.0), ([60.0], 120.0)]
)
def test_an_answer_may_take_ten_times_the_usual(rounds, expected) -> None:
    asker = World().asker()
    for seconds in rounds:
        asker.took(seconds)
    assert asker.answer_seconds() == expected


def test_old_rounds_no_longer_count() -> None:
    asker = World().asker()
    for seconds in [100.0] * 5 + [4.0] * 9:
        asker.took(seconds)
    assert asker.answer_seconds() == 40.0
