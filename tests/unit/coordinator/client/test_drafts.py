"""Does a draft become exactly one plan, with nothing left open and nothing overridden?"""

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from coordinator.client import drafts
from coordinator.client.drafts import Parties
from deid.profile import shipped_profile
from schemas.canonical import sha256_hex
from schemas.errors import CohortiumError, ConfigError, ErrorCode, TrustError
from schemas.governance.study import StudyPlan
from schemas.identity import IdentityCard, seal_card
from schemas.models import from_safetensors, parameter_count, weights_from_seed
from schemas.privacy import plan_epsilon, plan_events
from schemas.signing import public_hex
from tests.support.desk import START, named_card
from tests.support.factories import VENDOR, SiteKeys, make_keys

SITES = ("site-1", "site-2", "site-3", "site-4")


@pytest.fixture(scope="module")
def keys() -> dict[str, SiteKeys]:
    return {site: make_keys() for site in SITES}


@pytest.fixture(scope="module")
def parties(keys: dict[str, SiteKeys]) -> Parties:
    cards = [named_card(site, keys[site]) for site in SITES]
    return Parties("Example Vendor", public_hex(VENDOR), cards, "22" * 32)


def _draft(name: str = "heart") -> dict[str, Any]:
    return tomllib.loads(drafts.start_draft("my-study", name))


def _resolve(
    draft: dict[str, Any], parties: Parties, now: datetime = START
) -> tuple[StudyPlan, bytes]:
    return drafts.resolve(draft, parties, now=now, entropy=lambda n: bytes(n))


def test_both_studies_have_a_template() -> None:
    assert {"cxr", "heart"} <= set(drafts.template_names())


def test_a_draft_begins_with_the_studys_own_name() -> None:
    text = drafts.start_draft("my-study", "heart")
    assert text.startswith('study_id = "my-study"\n')
    assert text.count("study_id") == 1


def test_profile_digests_are_those_of_the_shipped_keep_lists() -> None:
    for source, profile in (("table", "ehr-table"), ("dicom", "research")):
        assert drafts._profile_digest({"source": source}) == shipped_profile(profile).digest


@pytest.mark.parametrize("name", drafts.template_names())
def test_a_template_resolves_to_a_whole_plan(name: str, parties: Parties) -> None:
    plan, weights = _resolve(_draft(name), parties)
    assert plan.study_id == "my-study"
    assert plan.site_ids == SITES
    assert plan.vendor_key == public_hex(VENDOR)
    assert plan.recipients == ("Example Vendor",)
    assert sha256_hex(weights) == plan.model.initial_weights_sha256
    assert plan.model.parameters == parameter_count(plan.model)
    assert weights_from_seed(plan.model) == weights
    assert plan.created == "2026-11-22T18:00:00Z"
    assert plan.headroom(plan.sum_terms(0)) > 0


def test_noise_covers_steps_and_retries(parties: Parties) -> None:
    """PRIVACY-7: the least noise over every attempt, and its neighbour is too little."""
    plan, _ = _resolve(_draft(), parties)
    assert plan.privacy.noise_multiplier == 14.4487
    assert plan_epsilon(plan) <= plan.privacy.epsilon
    less = plan.privacy.model_copy(update={"noise_multiplier": 14.4486})
    assert plan_epsilon(plan.model_copy(update={"privacy": less})) > plan.privacy.epsilon
    assert plan.privacy.epsilon_two_hospitals == plan_epsilon(plan, hospitals=2)


def _prepared_draft(**preparation: Any) -> dict[str, Any]:
    draft = _draft()
    draft["training"] |= {"class_weights": "preparation"}
    return (
        draft
        | {"preparation": {"epsilon": 0.2, "retry_cap": 2, "integer_clip": 4096}}
        | ({"preparation": preparation} if preparation else {})
    )


def test_a_preparation_is_paid_for_first_and_training_with_the_rest(parties: Parties) -> None:
    """PRIVACY-7: both within the draft's epsilon; the preparation within its own, alone."""
    plan, _ = _resolve(_prepared_draft(), parties)
    assert plan.preparation is not None
    first, training = plan_events(plan)
    assert first.attempts == 3 and training.attempts == 15
    assert plan_epsilon(plan, only=first) <= 0.2
    assert plan_epsilon(plan, only=training) < plan_epsilon(plan) <= 1.0
    assert plan.privacy.noise_multiplier > 14.4487  # what training alone would need


def test_a_patient_of_two_hospitals_may_be_promised_the_same(parties: Parties) -> None:
    """PRIVACY-6: twice the noise for a full batch of shared noise, √2 times for local noise."""
    draft = _draft()
    draft["privacy"] |= {"hospitals_per_patient": 2}
    plan, _ = _resolve(draft, parties)
    assert plan.privacy.noise_multiplier == pytest.approx(2 * 14.4487, abs=2e-4)
    assert plan_epsilon(plan) <= 1.0
    assert plan.privacy.epsilon_two_hospitals == plan.privacy.epsilon


def _local_draft() -> dict[str, Any]:
    draft = _draft()
    draft["training"] |= {
        "algorithm": "dp-fedavg",
        "local_steps": 4,
        "local_learning_rate": 0.5,
        "local_divisor": 50.0,
        "update_clip": 1.0,
        "divisor": 4.0,
    }
    return draft


def test_local_steps_are_paid_for_one_by_one(parties: Parties) -> None:
    """PRIVACY-7, PRIVACY-13: four steps a sum, fifteen sums: sixty releases."""
    plan, _ = _resolve(_local_draft(), parties)
    assert plan.privacy.noise_multiplier == pytest.approx(2 * 14.4487, abs=2e-4)  # √4 times
    (event,) = plan_events(plan)
    assert event.is_local and event.mechanism().count == 60


def test_the_same_draft_gives_the_same_digest(parties: Parties) -> None:
    first, _ = _resolve(_draft(), parties)
    second, _ = _resolve(_draft(), parties)
    assert first.digest() == second.digest()


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("", "vendor_key"),
        ("", "sites"),
        ("", "created"),
        ("", "app_bundle_sha256"),
        ("model", "parameters"),
        ("model", "initial_weights_sha256"),
        ("privacy", "noise_multiplier"),
        ("preparation", "noise_multiplier"),
        ("privacy", "epsilon_two_hospitals"),
    ],
)
def test_a_draft_may_not_fix_what_is_filled_in(tmp_path: Path, table: str, key: str) -> None:
    text = drafts.start_draft("x", "heart")
    if table == "preparation":  # heart has none
        text += "\n[preparation]\n"
    head = f"[{table}]\n"
    text = text.replace(head, f"{head}{key} = 1\n") if table else f"{key} = 1\n{text}"
    path = tmp_path / "draft.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        drafts.read_draft(path)
    assert caught.value.code is ErrorCode.CONFIG_INVALID
    assert key in caught.value.sentence


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"surprise": 1}, ErrorCode.FIELD_UNKNOWN),
        ({"title": ""}, ErrorCode.FIELD_INVALID),
        ({"cohort_minimum": 2}, ErrorCode.FIELD_INVALID),
        ({"valid_days": 0}, ErrorCode.CONFIG_INVALID),
        ({"valid_days": "many"}, ErrorCode.CONFIG_INVALID),
        ({"model": None}, ErrorCode.CONFIG_INVALID),
    ],
)
def test_drafts_that_make_no_plan_are_refused(
    parties: Parties, change: dict[str, Any], code: ErrorCode
) -> None:
    with pytest.raises(CohortiumError) as caught:
        _resolve({**_draft(), **change}, parties)
    assert caught.value.code is code


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": None},
        {"epsilon": True},
        {"epsilon": 0},
        {"epsilon": 21.0},
        {"delta": 1},
        {"delta": 2e-5},
        {"hospitals_per_patient": 0},
        {"hospitals_per_patient": 1.5},
    ],
    ids=str,
)
def test_privacy_terms_that_cannot_be_calibrated_are_refused(
    parties: Parties, change: dict[str, Any]
) -> None:
    draft = _draft()
    with pytest.raises(ConfigError) as caught:
        _resolve({**draft, "privacy": {**draft["privacy"], **change}}, parties)
    assert caught.value.code is ErrorCode.CONFIG_INVALID
    assert next(iter(change)) in caught.value.sentence


@pytest.mark.parametrize(
    ("preparation", "code"),
    [
        ({"retry_cap": 2, "integer_clip": 4096}, ErrorCode.CONFIG_INVALID),
        ({"epsilon": 0.2, "integer_clip": 4096}, ErrorCode.CONFIG_INVALID),
        ({"epsilon": 0.2, "retry_cap": -1, "integer_clip": 4096}, ErrorCode.CONFIG_INVALID),
        ({"epsilon": 1.0, "retry_cap": 2, "integer_clip": 4096}, ErrorCode.ACCOUNTING_UNREACHABLE),
        ({"epsilon": 0.2, "retry_cap": 2}, ErrorCode.FIELD_MISSING),
    ],
    ids=["no-epsilon", "no-retries", "negative", "nothing-left", "no-clip"],
)
def test_a_preparation_that_cannot_be_calibrated_is_refused(
    parties: Parties, preparation: dict[str, Any], code: ErrorCode
) -> None:
    with pytest.raises(CohortiumError) as caught:
        _resolve(_prepared_draft(**preparation), parties)
    assert caught.value.code is code


def test_a_preparation_that_nothing_needs_is_refused(parties: Parties) -> None:
    draft = _draft() | {"preparation": _prepared_draft()["preparation"]}
    with pytest.raises(ConfigError):
        _resolve(draft, parties)


def test_a_plan_with_too_few_hospitals_is_refused(parties: Parties) -> None:
    few = Parties(parties.vendor, parties.vendor_key, parties.cards[:2], "22" * 32)
    with pytest.raises(ConfigError):
        _resolve(_draft(), few)


def test_a_recoverable_draft_gets_the_outputs_its_sums_need(parties: Parties) -> None:
    draft = _draft()
    assert draft["aggregation"] == {"mode": "atomic", "maximum_dropouts": 0, "pair_root": "x25519"}
    draft["aggregation"] |= {"mode": "recoverable", "maximum_dropouts": 1}
    plan, _ = _resolve(draft, parties)
    assert plan.is_recoverable
    assert plan.outputs == (*draft["outputs"], "survivor-confirmation", "unmasking")
    named, _ = _resolve({**draft, "outputs": list(plan.outputs)}, parties)
    assert named.outputs == plan.outputs
    draft["aggregation"] |= {"maximum_dropouts": 2}  # of four: three must stay
    with pytest.raises(ConfigError):
        _resolve(draft, parties)


def test_without_a_seed_in_the_draft_fresh_bytes_are_drawn(parties: Parties) -> None:
    draft = _draft()
    del draft["model"]["initialisation_seed"]
    plan, _ = drafts.resolve(draft, parties, now=START, entropy=lambda n: b"\x07" * n)
    assert plan.model.initialisation_seed == "07" * 32


def test_unknown_templates_and_missing_drafts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        drafts.start_draft("x", "lungs")
    assert "heart" in caught.value.hint
    with pytest.raises(ConfigError) as caught:
        drafts.read_draft(tmp_path / "none.toml")
    assert caught.value.code is ErrorCode.CONFIG_FILE_MISSING


@pytest.mark.parametrize("raw", [b"= broken", b"\xff\xfe", b"#" * 600_000])
def test_unreadable_drafts_are_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "draft.toml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError):
        drafts.read_draft(path)


def _write_card(folder: Path, name: str, keys: SiteKeys, signer: SiteKeys | None = None) -> None:
    card: IdentityCard = named_card("site-1", keys)
    signed = seal_card((signer or keys).identity, card)
    (folder / name).write_bytes(signed.canonical())


def test_cards_are_read_from_a_folder(tmp_path: Path) -> None:
    keys = make_keys()
    _write_card(tmp_path, "a.card", keys)
    (tmp_path / "notes.txt").write_text("not a card", encoding="utf-8")
    assert drafts.read_cards(tmp_path) == [named_card("site-1", keys)]


def test_cards_that_are_forged_doubled_or_missing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as missing:
        drafts.read_cards(tmp_path)
    assert missing.value.code is ErrorCode.CONFIG_FILE_MISSING
    _write_card(tmp_path, "a.card", make_keys(), signer=make_keys())
    with pytest.raises(TrustError):
        drafts.read_cards(tmp_path)
    _write_card(tmp_path, "a.card", make_keys())
    _write_card(tmp_path, "b.card", make_keys())
    with pytest.raises(ConfigError) as doubled:
        drafts.read_cards(tmp_path)
    assert doubled.value.code is ErrorCode.PEER_EXISTS


def _own_weights(**changes: np.ndarray) -> bytes:
    tensors = {"linear.weight": np.full((1, 13), 0.5, np.float32), "linear.bias": np.zeros(1)}
    return bytes(save(tensors | changes))


def _from_file(**model: Any) -> dict[str, Any]:
    draft = _draft()
    draft["model"] |= {
        "initialisation": "file",
        "initial_weights_origin": "A public registry; no patient of these hospitals.",
    }
    draft["model"].pop("initialisation_seed", None)
    draft["model"] |= model
    width = sum(len(f.get("levels", [0])) for f in draft["model"]["features"])
    assert width == 13
    return draft


def test_own_weights_start_the_plan_and_name_their_origin(parties: Parties) -> None:
    plan, weights = drafts.resolve(
        _from_file(), parties, now=START, entropy=lambda n: bytes(n), weights=_own_weights()
    )
    assert plan.model.initialisation == "file"
    assert plan.model.initialisation_seed is None
    assert plan.model.initial_weights_origin == "A public registry; no patient of these hospitals."
    assert plan.model.initial_weights_sha256 == sha256_hex(weights)
    assert from_safetensors(plan.model, weights).tolist() == [0.5] * 13 + [0.0]


@pytest.mark.parametrize(
    ("draft", "weights", "code"),
    [
        pytest.param(_draft(), _own_weights(), ErrorCode.CONFIG_USAGE, id="file unasked for"),
        pytest.param(_from_file(), None, ErrorCode.CONFIG_USAGE, id="no file"),
        pytest.param(
            _from_file(initial_weights_origin=None),
            _own_weights(),
            ErrorCode.FIELD_INVALID,
            id="no statement of origin",
        ),
        pytest.param(
            _from_file(initialisation_seed="00" * 32),
            _own_weights(),
            ErrorCode.FIELD_INVALID,
            id="seed and file",
        ),
        pytest.param(
            _from_file(),
            _own_weights(**{"linear.bias": np.zeros(2)}),
            ErrorCode.WEIGHTS_UNFIT,
            id="another model",
        ),
    ],
)
def test_own_weights_that_do_not_belong_are_refused(
    draft: dict[str, Any], weights: bytes | None, code: ErrorCode, parties: Parties
) -> None:
    with pytest.raises(ConfigError) as caught:
        drafts.resolve(draft, parties, now=START, entropy=lambda n: bytes(n), weights=weights)
    assert caught.value.code is code


def test_dp_fedavg_without_its_constants_or_with_patients_for_a_divisor_is_refused(
    parties: Parties,
) -> None:
    draft = _draft()
    draft["training"] |= {"algorithm": "dp-fedavg", "local_learning_rate": 2.0}
    with pytest.raises(ConfigError) as refused:
        _resolve(draft, parties)
    assert refused.value.sentence.startswith("The draft's [training] has a value")
    assert refused.value.hint.endswith("a number above 0 for local_divisor and update_clip.")
    draft["training"] |= {"local_divisor": 125.0, "update_clip": 3.0}  # 500 patients are left
    with pytest.raises(ConfigError, match="The draft has a value") as refused:
        _resolve(draft, parties)
    assert "the divisor counts hospitals" in refused.value.hint


def test_what_needs_a_preparation_and_what_is_unknown_is_named(parties: Parties) -> None:
    draft = _draft("tabular-prepared")
    prepared = draft.pop("preparation")
    with pytest.raises(ConfigError) as refused:
        _resolve(draft, parties)
    assert "by standardise creatinine" in refused.value.hint
    draft["preparation"] = prepared | {"retries": 1}
    with pytest.raises(ConfigError) as refused:
        _resolve(draft, parties)
    assert "'retries'" in refused.value.hint
