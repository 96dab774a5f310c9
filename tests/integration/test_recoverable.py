"""A hospital dies in an attempt of a recoverable study: the sum goes on without it."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.integration.conftest import Consortium

STUDY = "heart-recoverable"
STEPS = 3
EDIT = {
    "steps = 12": f"steps = {STEPS}",
    "average_from_step = 6": f"average_from_step = {STEPS // 2}",
    'mode = "atomic"': 'mode = "recoverable"',
    "maximum_dropouts = 0": "maximum_dropouts = 1",
}


@contextmanager
def book(consortium: Consortium) -> Iterator[sqlite3.Connection]:
    """The coordinator's database, to see an attempt begin at the moment it does."""
    path = consortium.bed.home("coordinator") / "coordinator.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        yield connection


def kill_when_an_attempt_opens(consortium: Consortium, name: str, digest: str) -> int:
    """Kill a hospital's executor once the next attempt is written down; returns its round.

    That is the moment before COHORT is sent, and long before anybody could have uploaded.
    """
    executor = consortium.pid(name, "executor")
    query = "SELECT max(round) FROM attempts WHERE digest = ? AND kind = 'train' AND state = 'open'"
    until = time.monotonic() + 60
    with book(consortium) as connection:
        seen = connection.execute(query, (digest,)).fetchone()[0]
        while time.monotonic() < until:
            now = connection.execute(query, (digest,)).fetchone()[0]
            if now is not None and now != seen:
                os.kill(executor, signal.SIGKILL)
                return int(now)
            time.sleep(0.002)
    raise TimeoutError("no attempt was opened")


def test_a_hospital_lost_between_cohort_and_upload_does_not_void_the_attempt(
    consortium: Consortium,
) -> None:
    bed = consortium.bed
    digest = bed.propose(STUDY, template="heart", edit=EDIT)
    bed.ingest(STUDY, consortium.raw["heart"], folder="heart")
    bed.approve(STUDY, digest)
    lost = kill_when_an_attempt_opens(consortium, "site-2", digest)
    study = consortium.watch(STUDY)
    assert study["state"] == "done", study["reason_code"]
    training = [entry for entry in study["rounds"] if entry["kind"] == "train"]
    # The very attempt in which it died gave its sum, of the other three; none is void.
    assert [entry["state"] for entry in training] == ["summed"] * STEPS
    assert [entry["sites_lost"] for entry in training] == [int(r == lost) for r in range(STEPS)]
    assert training[-1]["sites"] == 4, "the hospital did not come back into the cohort"
    assert len(study["result"]["signed_by"]) == 4
    # Who took part is charged; the one that died was, or was not yet, when it did.
    assert consortium.charges("site-1", digest) == STEPS
    assert consortium.charges("site-2", digest) in (STEPS - 1, STEPS)
    shown = {site["site_id"]: {item["kind"]: item for item in site["sent"]}
             for site in study["sites"]}  # fmt: skip
    assert shown["site-1"]["unmasking"]["messages"] == STEPS
    assert shown["site-2"]["unmasking"]["messages"] == STEPS - 1
