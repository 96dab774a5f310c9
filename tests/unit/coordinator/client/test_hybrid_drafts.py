"""Does one line of the study's TOML make a hybrid plan, with the hospitals' ML-KEM-768 keys?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.client import drafts
from coordinator.client.drafts import Parties
from schemas.errors import ConfigError
from schemas.governance.study import StudyPlan
from schemas.signing import public_hex
from tests.support.desk import START, named_card
from tests.support.factories import HYBRID, VENDOR, SiteKeys, make_keys

SITES = ("site-1", "site-2", "site-3", "site-4")


@pytest.fixture(scope="module")
def keys() -> dict[str, SiteKeys]:
    return {site: make_keys() for site in SITES}


@pytest.fixture
def resolved(keys: dict[str, SiteKeys], tmp_path: Path):
    """Resolve the heart template as a vendor edits it: one value of one line."""
    cards = [named_card(site, keys[site]) for site in SITES]
    parties = Parties("Example Vendor", public_hex(VENDOR), cards, "22" * 32)

    def resolve(pair_root: str) -> StudyPlan:
        text = drafts.start_draft("my-study", "heart")
        text, count = re.subn(
            r'^pair_root = "[^"]*"', f'pair_root = "{pair_root}"', text, flags=re.M
        )
        assert count == 1
        path = tmp_path / "draft.toml"
        path.write_text(text, encoding="utf-8")
        draft = drafts.read_draft(path)
        return drafts.resolve(draft, parties, now=START, entropy=lambda n: bytes(n))[0]

    return resolve


def test_the_line_puts_every_hospitals_kem_key_into_the_plan(keys, resolved) -> None:
    plan = resolved(HYBRID)
    assert plan.is_hybrid
    for site in plan.sites:
        key = keys[site.site_id].kem.public_key().public_bytes_raw().hex()
        assert site.kem_key == key


def test_without_it_the_plan_names_none(resolved) -> None:
    plan = resolved("x25519")
    assert {site.kem_key for site in plan.sites} == {None}


@pytest.mark.parametrize("name", ["ml-kem-768", "X25519-ML-KEM-768", "x25519-ml-kem-1024"])
def test_a_pair_root_that_is_not_known_makes_no_plan(resolved, name: str) -> None:
    with pytest.raises(ConfigError):
        resolved(name)
