"""Does SECAGG.md say of sizes, codes, versions and secrets what the code does?"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from schemas.errors import CohortiumError, ErrorCode
from schemas.limits import MAX_FRAME_BYTES, MAX_HEADER_BYTES, MAX_SITES
from schemas.secagg import mask, upload_hash
from schemas.secagg.keys import _LABEL as LABEL
from schemas.secagg.messages import ReadyHeader, SurvivorList
from schemas.secagg.recovery import confirm_survivors, reveal
from schemas.wire import ReadyReply, encode
from site_node.db import Database
from site_node.governance.journal import Journal
from tests.support.factories import make_plan, recoverable
from tests.support.reference_bytes import body, canonical
from tests.support.secure_sum import Consortium, vectors_of

SPEC = (Path(__file__).resolve().parents[2] / "schemas" / "spec" / "SECAGG.md").read_text()
ZEROS = "0" * 64
WHERE: dict[str, Any] = {"version": 1, "plan_digest": ZEROS, "round": 3, "attempt": 1}


def refused(call: Any) -> ErrorCode:
    with pytest.raises(CohortiumError) as caught:
        call()
    return caught.value.code


# --- SECAGG-18: sizes -------------------------------------------------------------------------


def dummy(site: str, names: list[str], *, has_self_mask: bool) -> dict[str, Any]:
    """A signed READY of the right lengths."""
    shares = dict.fromkeys(names, "0" * 96)
    ready = dict.fromkeys(ReadyHeader.model_fields, ZEROS)
    ready |= {"version": 2, "kind": "train", "site_id": site}
    ready |= {"round": 3, "attempt": 1, "ledger_charges": 4}
    ready |= {"group_shares": shares, "mask_shares": shares if has_self_mask else {}}
    return {"ready": ready, "signature": "0" * 128}


def measured(n: int) -> dict[str, int]:
    """Bytes of every row of the table."""
    names = [f"site-{i:03d}" for i in range(1, n + 1)]
    sizes = {}
    for mode, has_self_mask in (("atomic", False), ("recoverable", True)):
        readies = [dummy(name, names, has_self_mask=has_self_mask) for name in names]
        sizes[f"READY, {mode}"] = len(canonical(readies[0]))
        call = {"message": "cohort", **WHERE, "kind": "train", "previous": None}
        sizes[f"cohort, {mode}"] = len(body({**call, "readies": readies}))
    digests, signatures = dict.fromkeys(names, ZEROS), dict.fromkeys(names, "0" * 128)
    upload = {"message": "upload", **WHERE, "kind": "train", "tag": "0" * 16, "next_ready": None}
    one = {**WHERE, "site_id": names[0]}
    return sizes | {
        "upload, beyond its 4d": len(body(upload, b"")),
        "survivors": len(body({"message": "survivors", **WHERE, "uploads": digests})),
        "confirmation": len(body({"message": "confirmation", **one, "signature": "0" * 128})),
        "unmask": len(body({"message": "unmask", **WHERE, "confirmations": signatures})),
        "unmasking, none lost": len(
            body({"message": "unmasking", **one, "shares": digests, "seeds": {}})
        ),
    }


def test_the_table_of_sizes_is_measured() -> None:
    """SECAGG-18: every number of it, and the formula beside it."""
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| (\d+) \| (\d+) \| (\d+) \|$", SPEC, flags=re.MULTILINE
    )
    assert len(rows) == 9
    for column, n in enumerate((4, 50, 200)):
        sizes = measured(n)
        assert {row[0]: int(row[2 + column]) for row in rows} == sizes
        for name, formula, *_ in rows:
            if "digits" not in formula:
                code = re.sub(r"(\d)(n|\()", r"\1*\2", formula).replace("n(", "n*(")
                assert eval(code, {"n": n}) == sizes[name], name


def test_the_product_writes_these_sizes() -> None:
    """SECAGG-18, for n = 4 and names of six letters: two fewer for each name in it."""
    for consortium, mode in (
        (Consortium.of(4), "atomic"),
        (Consortium.recoverable(4), "recoverable"),
    ):
        signed = consortium.issue("site-1")[0]
        names = 5 if mode == "atomic" else 9
        assert len(signed.canonical()) == measured(4)[f"READY, {mode}"] - 2 * names
        reply = len(b'{"blobs":[],"message":"ready","ready":,"version":1}')
        assert len(encode(ReadyReply(ready=signed))) == 4 + reply + len(signed.canonical())


def test_the_largest_cohort_fits_its_limits() -> None:
    """SECAGG-18: 200 sites with names of 40 letters, in recoverable mode."""
    names = [f"{'h' * 36}-{i:03d}" for i in range(MAX_SITES)]
    signed = dummy(names[0], names, has_self_mask=True)
    signed["ready"] |= {"kind": "evaluate"}
    signed["ready"] |= dict.fromkeys(("round", "attempt", "ledger_charges"), 1_000_000)
    ready = len(canonical(signed))
    said = re.search(r"its fields leave it at most ([\d ]+) bytes", " ".join(SPEC.split()))
    assert said is not None
    assert int(said[1].replace(" ", "")) == ready
    assert MAX_SITES * (ready + 1) + 1_000 <= MAX_HEADER_BYTES


def test_the_limits_of_a_body_are_the_products() -> None:
    """SECAGG-19: in MiB."""
    for said, limit in (("longer than", MAX_FRAME_BYTES), ("header longer than", MAX_HEADER_BYTES)):
        found = re.search(rf"{said} (\d+) MiB", SPEC)
        assert found is not None
        assert int(found[1]) * 2**20 == limit


def test_what_makes_messages_longer() -> None:
    """SECAGG-18: the sentences below the table."""
    names = [f"site-{i:03d}" for i in range(1, 6)]
    one = {"message": "unmasking", **WHERE, "site_id": names[0]}
    sizes = []
    for lost in range(3):
        shares, seeds = dict.fromkeys(names[lost:], ZEROS), dict.fromkeys(names[:lost], "0" * 96)
        sizes.append(len(body({**one, "shares": shares, "seeds": seeds})))
    assert (sizes[1] - sizes[0], sizes[2] - sizes[1]) == (31, 32)
    assert "31 longer (the second and further ones 32)" in " ".join(SPEC.split())
    upload = {"message": "upload", **WHERE, "kind": "train", "tag": "0" * 16}
    ready = dummy(names[0], names, has_self_mask=True)
    grown = len(body({**upload, "next_ready": ready})) - len(body({**upload, "next_ready": None}))
    assert grown == len(canonical(ready)) - 4
    ciphertexts = dict.fromkeys(names, "0" * 2176)
    assert len(canonical(ciphertexts)) - len(canonical({})) == 5 * 2190 - 1


# --- SECAGG-4, -8, -10, -13, -14: codes -------------------------------------------------------


def test_every_code_of_the_specification_exists() -> None:
    named = set(re.findall(r"`([a-z]+\.[a-z0-9_]+)`", SPEC)) - {"study.py"}
    assert len(named) > 35
    assert named <= {code.value for code in ErrorCode}


# --- SECAGG-17: cohort change -----------------------------------------------------------------


@pytest.mark.parametrize(("n", "t", "lost"), [(5, 1, 1), (7, 1, 2), (10, 2, 3), (12, 3, 2)])
def test_every_training_cohort_carries_the_whole_noise(n: int, t: int, lost: int) -> None:
    """SECAGG-17: without t colluders and all lost sites, the shares left make up one variance."""
    terms = recoverable(lost) | {"collusion_bound": t, "cohort_minimum": t + 2}
    plan, _ = make_plan(n, **terms)
    for cohort in range(plan.fewest_summed, n + 1):
        fewest_summed = cohort - plan.dropouts_allowed(cohort)
        share = 1 / plan.noise_sharers(cohort)
        for summed in range(fewest_summed, cohort + 1):
            assert (summed - t) * share >= 1


def test_an_evaluation_has_one_roster_for_good(tmp_path: Path) -> None:
    """SECAGG-17: also after a restart, and whichever way the roster changes."""
    Journal(Database(tmp_path / "site.db", create=True)).fix_evaluation_roster(
        ZEROS, ["site-1", "site-2", "site-3"]
    )
    journal = Journal(Database(tmp_path / "site.db"))
    journal.fix_evaluation_roster(ZEROS, ["site-3", "site-2", "site-1"])
    for other in (["site-1", "site-2"], ["site-1", "site-2", "site-4"], ["site-4", "site-5"]):
        code = refused(lambda other=other: journal.fix_evaluation_roster(ZEROS, other))
        assert code is ErrorCode.EVALUATION_ROSTER_CHANGED


# --- SECAGG-20: life of secrets ---------------------------------------------------------------


def test_an_attempt_is_taken_up_once_also_after_a_restart(tmp_path: Path) -> None:
    """SECAGG-20: durable, and forward only."""
    Journal(Database(tmp_path / "site.db", create=True)).advance(ZEROS, "train", 3, 1)
    journal = Journal(Database(tmp_path / "site.db"))
    for earlier in ((3, 1), (3, 0), (2, 9)):
        code = refused(lambda earlier=earlier: journal.advance(ZEROS, "train", *earlier))
        assert code is ErrorCode.MESSAGE_REPLAYED
    journal.advance(ZEROS, "train", 3, 2)
    journal.advance(ZEROS, "evaluate", 0, 0)


def test_each_secret_goes_when_it_was_used() -> None:
    """SECAGG-20: READY's keys with the cohort, masks with the upload, shares with the answer."""
    consortium = Consortium.recoverable(5)
    issued = consortium.issue_all()
    readies = [signed for signed, _ in issued.values()]
    keys = {s: consortium.join(s, held, readies) for s, (_, held) in issued.items()}
    assert refused(issued["site-1"][1].ephemeral) is ErrorCode.COHORT_READY_STALE
    assert issued["site-1"][1].self_mask() == ()
    vectors = vectors_of(keys, 8)
    uploads = {site: mask(keys[site], vectors[site]) for site in keys}
    again = np.zeros(8, dtype=np.int64)
    assert refused(lambda: mask(keys["site-1"], again)) is ErrorCode.SECRETS_SPENT
    listed = {site: upload_hash(update) for site, update in uploads.items()}
    confirmations = {
        s: confirm_survivors(keys[s], consortium.parties[s], consortium.plan, listed) for s in keys
    }
    reveal(keys["site-1"], consortium.plan, confirmations)
    again_asked = partial(reveal, keys["site-1"], consortium.plan, confirmations)
    assert refused(again_asked) is ErrorCode.RECOVERY_DONE
    keys["site-2"].erase()
    assert refused(keys["site-2"].group) is ErrorCode.SECRETS_SPENT


# --- SECAGG-21: versions ----------------------------------------------------------------------


def test_signed_documents_and_labels_are_of_one_version() -> None:
    """SECAGG-21: what is signed says 2, what is derived says v2, and nothing else is accepted."""
    for document in (ReadyHeader, SurvivorList):
        assert get_args(document.model_fields["version"].annotation) == (2,)
    assert LABEL == b"cohortium/v2/secagg/"
    assert SPEC.splitlines()[2].startswith("Version 2.")
    ready = Consortium.of(3).issue("site-1")[0].ready
    for version in (1, 3):
        with pytest.raises(ValueError, match="Input should be 2"):
            ReadyHeader(**(ready.header().model_dump() | {"version": version}))


def test_the_specification_names_every_clause_once() -> None:
    numbers = [int(n) for n in re.findall(r"^\*\*SECAGG-(\d+) ", SPEC, flags=re.MULTILINE)]
    assert sorted(numbers) == list(range(1, max(numbers) + 1))
    assert max(numbers) == 21
