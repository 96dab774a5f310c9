"""Do product and second implementer do the same, byte for byte, in a whole attempt?

The vectors are made by the reference site, which is written from SECAGG.md and shares no code with
the product. Every value that leaves a site is compared; the refusals are in `test_vectors_bad`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from schemas.secagg import (
    add_masked,
    confirm_survivors,
    recover_sum,
    reveal,
    sum_hash,
    upload_hash,
    words_to_bytes,
)
from schemas.secagg.kem import kem_secret, own_kem_secret
from schemas.secagg.keys import tag_offset, tag_secret
from schemas.secagg.tag import AffineTag
from scripts import make_vectors
from tests.support.reference_site import ReferenceSite
from tests.support.vectors_replay import (
    BAD,
    FOLDER,
    GOOD,
    KEYS,
    Replay,
    Vector,
    load,
    revealed_of,
    summed_of,
    words_of,
)


@pytest.fixture(scope="module")
def good() -> dict[str, Vector]:
    return {name: load("good", name) for name in GOOD}


# --- the files ------------------------------------------------------------------------------


def test_the_vectors_on_disk_are_those_the_script_makes() -> None:
    assert make_vectors.differences() == []
    assert len(GOOD) == 5
    assert len(BAD) > 60


def test_a_changed_a_missing_and_a_foreign_vector_are_found(tmp_path: Path) -> None:
    assert make_vectors.write(tmp_path) == len(GOOD) + len(BAD) + 1
    assert make_vectors.differences(tmp_path) == []
    changed = tmp_path / "good" / "atomic-training.json"
    changed.write_text(changed.read_text().replace('"round": 3', '"round": 4'))
    (tmp_path / "bad" / "ready-cut-off.json").unlink()
    (tmp_path / "bad" / "foreign.json").write_text("{}\n")
    assert make_vectors.differences(tmp_path) == [
        "bad/foreign.json",
        "bad/ready-cut-off.json",
        "good/atomic-training.json",
    ]
    make_vectors.write(tmp_path)
    assert make_vectors.differences(tmp_path) == []


# --- whole attempts ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOOD)
def test_a_good_attempt_comes_out_the_same(good: dict[str, Vector], name: str) -> None:
    vector = good[name]
    assert hashlib.sha256(vector["plan"].encode()).hexdigest() == vector["plan_digest"]
    sites = {site: Replay(vector, site) for site in vector["readies"]}
    keys, uploads = {}, {}
    for site, replay in sites.items():
        assert replay.ready()[0].canonical().decode() == vector["readies"][site]
        keys[site] = replay.keys()
        uploads[site] = replay.upload(keys[site])
        wanted = vector["uploads"][site]
        assert words_to_bytes(uploads[site].words).hex() == wanted["words"]
        assert f"{uploads[site].tag:016x}" == wanted["tag"]
    assert keys[site].transcript_hash == vector["derived"]["transcript_hash"]
    assert keys[site].group().hex() == vector["derived"]["group_secret"]
    survivors = vector["sum"]["survivors"]
    plan = next(iter(sites.values())).plan
    if survivors:
        listed, signatures, answers = vector["survivors"], vector["confirmations"], {}
        assert listed == {site: upload_hash(uploads[site]) for site in survivors}
        for site in survivors:
            signature = confirm_survivors(keys[site], sites[site].party, plan, listed)
            assert signature == signatures[site]
        for site in survivors:
            answers[site] = reveal(keys[site], plan, signatures)
        assert answers == revealed_of(vector["answers"])
        kept = {site: uploads[site] for site in survivors}
        readies = sites[survivors[0]].parsed(list(vector["readies"].values()))
        total = recover_sum(plan, readies, kept, answers)
    else:
        total = add_masked(uploads, tuple(uploads))
    assert words_to_bytes(total.words).hex() == vector["sum"]["words"]
    assert f"{total.tag:016x}" == vector["sum"]["tag"]
    assert sum_hash(total) == vector["sum"]["hash"]
    for site, replay in sites.items():
        assert replay.open(keys[site], total, survivors) == vector["opened"]


def test_a_site_that_was_away_opens_the_sum(good: dict[str, Vector]) -> None:
    vector = good["atomic-training"]
    away = Replay(vector, "site-3")
    assert away.open(away.keys(), summed_of(vector["sum"]), []) == vector["opened"]
    identity, study = (bytes.fromhex(vector["sites"]["site-3"][f"{k}_private"]) for k in KEYS)
    reference = ReferenceSite(vector["plan"].encode(), "site-3", identity, study)
    documents = [text.encode() for text in vector["readies"].values()]
    told = vector["attempt"]
    step = told["round"], told["attempt"]
    reference.observe(documents, step, told["new_model_hash"], away.plan.site_ids)
    words = [int(word) for word in words_of(vector["sum"]["words"])]
    assert reference.open(words, int(vector["sum"]["tag"], 16)) == vector["opened"]


def test_tags_of_longer_vectors_are_the_same() -> None:
    """SECAGG-8: one row, exactly one, a few, and more than the product keeps at a time."""
    told = json.loads((FOLDER / "tags.json").read_text())
    for row in told["tags"]:
        words = np.arange(1, row["words"] + 1, dtype=np.uint64) * np.uint64(told["factor"])
        values = words.astype(np.uint32).view(np.int32).astype(np.int64)
        group, named = bytes.fromhex(told["group_secret"]), row["contributors"]
        offset = sum(tag_offset(group, row["words"], site) for site in named)
        found = AffineTag(tag_secret(group, row["words"])).evaluate(values, offset=offset)
        assert f"{found:016x}" == row["tag"], row


def test_kem_secrets_follow_from_seeds_and_ciphertexts(good: dict[str, Vector]) -> None:
    """SECAGG-16: both ends of a pair, and each site with itself."""
    vector = good["hybrid-training"]
    plan = vector["plan_digest"]
    for low, row in vector["encapsulations"].items():
        for high, text in row.items():
            ciphertext, seed = bytes.fromhex(text), vector["sites"][high]["kem_seed"]
            private = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(seed))
            shared = private.decapsulate(ciphertext)
            secret = kem_secret(shared, ciphertext, plan_digest=plan, sender=low, receiver=high)
            for one, other in ((low, high), (high, low)):
                assert vector["sites"][one]["kem_secrets"][other] == secret.hex()
    for site, own in vector["sites"].items():
        seed = bytes.fromhex(own["kem_seed"])
        alone = own_kem_secret(seed, plan_digest=plan, site_id=site)
        assert own["kem_secrets"][site] == alone.hex()
