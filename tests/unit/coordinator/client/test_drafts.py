"""Does a draft become exactly one plan, with nothing left open and nothing overridden?"""

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from coordinator.client import drafts
from coordinator.client.drafts import Parties
from deid.profile import shipped_profile
from schemas.canonical import sha256_hex
from schemas.errors import CohortiumError, ConfigError, ErrorCode, TrustError
from schemas.governance.study import StudyPlan
from schemas.identity import IdentityCard, seal_card
from schemas.models import parameter_count
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the heavy accountant; its own tests are elsewhere. Returns what it was asked."""
    from schemas.privacy import accounting

    asked: list[dict[str, Any]] = []

    def calibrate(**values: Any) -> float:
        asked.append(values)
        return 14.4487

    monkeypatch.setattr(accounting, "calibrate_noise", calibrate)
    monkeypatch.setattr(accounting, "epsilon", lambda **values: asked.append(values) or 4.5)
    return asked


def _draft(name: str = "heart") -> dict[str, Any]:
    return tomllib.loads(drafts.start_draft("my-study", name))


def _resolve(
    draft: dict[str, Any], parties: Parties, now: datetime = START
) -> tuple[StudyPlan, bytes]:
    return drafts.resolve(draft, parties, now=now, entropy=lambda n: bytes(n))


def test_both_studies_have_a_template() -> None:
    assert drafts.template_names() == ["cxr", "heart"]


def test_a_draft_begins_with_the_studys_own_name() -> None:
    text = drafts.start_draft("my-study", "heart")
    assert text.startswith('study_id = "my-study"\n')
    assert text.count("study_id") == 1


def test_profile_digests_are_those_of_the_shipped_keep_lists() -> None:
    for source, profile in (("table", "ehr-table"), ("dicom", "dicom-image")):
        assert drafts._profile_digest({"source": source}) == shipped_profile(profile).digest


@pytest.mark.parametrize("name", ["heart", "cxr"])
def test_a_template_resolves_to_a_whole_plan(
    name: str, parties: Parties, quick: list[dict[str, Any]]
) -> None:
    plan, weights = _resolve(_draft(name), parties)
    assert plan.study_id == "my-study"
    assert plan.site_ids == SITES
    assert plan.vendor_key == public_hex(VENDOR)
    assert plan.recipients == ("Example Vendor",)
    assert sha256_hex(weights) == plan.model.initial_weights_sha256
    assert plan.model.parameters == parameter_count(plan.model)
    assert drafts.weights_of(plan) == weights
    assert plan.created == "2026-11-22T18:00:00Z"
    assert plan.headroom() > 0


def test_noise_covers_steps_and_retries(parties: Parties, quick: list[dict[str, Any]]) -> None:
    plan, _ = _resolve(_draft(), parties)
    calibrated, two = quick
    assert calibrated["steps"] == plan.training.steps + plan.training.retry_cap
    assert calibrated["epsilon"] == plan.privacy.epsilon
    assert calibrated["delta"] == plan.privacy.delta
    assert two["hospitals_per_patient"] == 2
    assert two["steps"] == calibrated["steps"]
    assert plan.privacy.epsilon_two_hospitals == 4.5


def test_the_same_draft_gives_the_same_digest(
    parties: Parties, quick: list[dict[str, Any]]
) -> None:
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
        ("privacy", "epsilon_two_hospitals"),
    ],
)
def test_a_draft_may_not_fix_what_is_filled_in(tmp_path: Path, table: str, key: str) -> None:
    text = drafts.start_draft("x", "heart")
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
    parties: Parties, quick: list[dict[str, Any]], change: dict[str, Any], code: ErrorCode
) -> None:
    with pytest.raises(CohortiumError) as caught:
        _resolve({**_draft(), **change}, parties)
    assert caught.value.code is code


@pytest.mark.parametrize("change", [{"epsilon": None}, {"delta": 1}, {"hospitals_per_patient": 2}])
def test_privacy_terms_that_cannot_be_calibrated_are_refused(
    parties: Parties, quick: list[dict[str, Any]], change: dict[str, Any]
) -> None:
    draft = _draft()
    with pytest.raises(ConfigError):
        _resolve({**draft, "privacy": {**draft["privacy"], **change}}, parties)
    assert quick == []


def test_a_plan_with_too_few_hospitals_is_refused(
    parties: Parties, quick: list[dict[str, Any]]
) -> None:
    few = Parties(parties.vendor, parties.vendor_key, parties.cards[:2], "22" * 32)
    with pytest.raises(ConfigError):
        _resolve(_draft(), few)


def test_a_recoverable_draft_gets_the_outputs_its_sums_need(
    parties: Parties, quick: list[dict[str, Any]]
) -> None:
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


def test_without_a_seed_in_the_draft_fresh_bytes_are_drawn(
    parties: Parties, quick: list[dict[str, Any]]
) -> None:
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


def test_weights_of_a_plan_with_other_weights_are_refused(
    parties: Parties, quick: list[dict[str, Any]]
) -> None:
    plan, _ = _resolve(_draft(), parties)
    other = plan.model_copy(
        update={"model": plan.model.model_copy(update={"initial_weights_sha256": "00" * 32})}
    )
    with pytest.raises(ConfigError) as caught:
        drafts.weights_of(other)
    assert caught.value.code is ErrorCode.WEIGHTS_MISMATCH
