"""How do tests get a complete, valid study plan with keys for every site?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas.canonical import build
from schemas.governance.approval import Approval, Stop
from schemas.governance.study import StudyPlan
from schemas.identity import IdentityCard, fingerprint, seal_card
from schemas.signing import Context, SignedDocument, public_hex, seal

VENDOR = Ed25519PrivateKey.generate()
NOW = "2026-11-22T18:00:00Z"
HYBRID = "x25519-ml-kem-768"


@dataclass(frozen=True, slots=True)
class SiteKeys:
    """A test hospital's private keys."""

    identity: Ed25519PrivateKey
    approval: Ed25519PrivateKey
    study: X25519PrivateKey
    node: ec.EllipticCurvePrivateKey
    kem: MLKEM768PrivateKey = field(default_factory=MLKEM768PrivateKey.generate)


def make_keys() -> SiteKeys:
    """Fresh keys of one hospital."""
    return SiteKeys(
        identity=Ed25519PrivateKey.generate(),
        approval=Ed25519PrivateKey.generate(),
        study=X25519PrivateKey.generate(),
        node=ec.generate_private_key(ec.SECP384R1()),
    )


def make_card(site_id: str, keys: SiteKeys) -> IdentityCard:
    """The identity card of one hospital; the same keys give the same card."""
    node = keys.node.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return IdentityCard(
        site_id=site_id,
        name=f"Hospital {site_id}",
        identity_key=public_hex(keys.identity),
        approval_key=public_hex(keys.approval),
        study_key=keys.study.public_key().public_bytes_raw().hex(),
        kem_key=keys.kem.public_key().public_bytes_raw().hex(),
        node_key=node.hex(),
        created=NOW,
    )


def sealed_card(site_id: str, keys: SiteKeys) -> SignedDocument:
    """The card as it is handed over."""
    return seal_card(keys.identity, make_card(site_id, keys))


def plan_values(keys: dict[str, SiteKeys]) -> dict[str, Any]:
    """Plain values of a heart-like plan: logistic regression on three columns (4 inputs)."""
    sites = []
    for site_id, mine in keys.items():
        card = make_card(site_id, mine)
        sites.append(
            {
                "site_id": site_id,
                "name": card.name,
                "identity_key": card.identity_key,
                "approval_key": card.approval_key,
                "study_key": card.study_key,
            }
        )
    return {
        "version": 1,
        "study_id": "heart",
        "title": "Heart disease from thirteen clinical values",
        "purpose": "Train a logistic model of heart disease.",
        "created": "2026-11-22T12:00:00Z",
        "expires": "2027-05-22T12:00:00Z",
        "vendor": "Example Vendor",
        "vendor_key": public_hex(VENDOR),
        "recipients": ["Example Vendor"],
        "sites": sites,
        "collusion_bound": 1,
        "cohort_minimum": 3,
        "data": {
            "source": "table",
            "patient_column": "chart_number",
            "columns": [
                {"name": "age", "kind": "number", "minimum": 18, "maximum": 110},
                {
                    "name": "chol",
                    "kind": "number",
                    "minimum": 0,
                    "maximum": 1000,
                    "suspicious": [0],
                },
                {"name": "cp", "kind": "category", "codes": ["1", "2", "3", "4"]},
                {"name": "num", "kind": "integer", "minimum": 0, "maximum": 4},
            ],
            "label": "num",
            "label_positive": ["1", "2", "3", "4"],
            "split_column": "split",
            "minimum_class_count_in_test": 10,
        },
        "model": {
            "architecture": "logistic",
            "features": [
                {"column": "age", "encoding": "scale", "minimum": 20, "maximum": 90},
                {"column": "chol", "encoding": "scale", "minimum": 100, "maximum": 400},
                {"column": "cp", "encoding": "one-hot", "levels": ["2", "4"]},
            ],
            "initialisation_seed": "00" * 32,
            "initial_weights_sha256": "11" * 32,
            "parameters": 5,
        },
        "training": {
            "algorithm": "dp-fedsgd",
            "steps": 10,
            "retry_cap": 2,
            "sampling": "full",
            "sampling_rate": 1,
            "clip": 1,
            "integer_clip": 2**18,
            "learning_rate": 1,
            "momentum": 0,
            "divisor": 500,
            "maximum_patients": 2000,
            "average_from_step": 5,
            "max_images_per_patient": 1,
            "weight_decay": 0,
        },
        "privacy": {
            "epsilon": 1,
            "delta": 1e-5,
            "noise_multiplier": 13,
            "hospitals_per_patient": 1,
            "epsilon_two_hospitals": 2.2,
            "smallest_site_patients": 46,
        },
        "evaluation": {"bins": 100, "threshold": 0.5, "minimum_roc_patients": 10},
        "outputs": ["masked-update", "masked-evaluation", "model-hash", "release", "refusal"],
        "app_bundle_sha256": "22" * 32,
        "deid_profile_sha256": "33" * 32,
        "tuning_declaration": "Constants were tuned on training rows only.",
    }


def make_plan(n_sites: int = 4, **overrides: Any) -> tuple[StudyPlan, dict[str, SiteKeys]]:
    """Make a valid plan for ``site-1`` ... ``site-n`` and all the keys behind it.

    Args:
        n_sites: Number of hospitals, at least 3.
        overrides: Top-level fields by name; a dict is merged into its section, so
            ``make_plan(training={"steps": 3, "average_from_step": 3})`` works.
    """
    keys = {f"site-{index}": make_keys() for index in range(1, n_sites + 1)}
    return plan_with(keys, **overrides), keys


def recoverable(maximum_dropouts: int = 1) -> dict[str, Any]:
    """Overrides that make a plan's training survive the loss of some hospitals."""
    outputs = [
        "masked-update",
        "masked-evaluation",
        "survivor-confirmation",
        "unmasking",
        "model-hash",
        "release",
        "refusal",
    ]
    terms = {"mode": "recoverable", "maximum_dropouts": maximum_dropouts}
    return {"aggregation": terms, "outputs": outputs}


def plan_with(keys: dict[str, SiteKeys], **overrides: Any) -> StudyPlan:
    """Make a plan for given keys, with overrides as in :func:`make_plan`."""
    values = plan_values(keys)
    for name, value in overrides.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            values[name] = {**values[name], **value}
        else:
            values[name] = value
    aggregation = values.get("aggregation", {})
    if aggregation.get("pair_root") == HYBRID and "sites" not in overrides:
        values["sites"] = [
            {**site, "kem_key": make_card(site["site_id"], keys[site["site_id"]]).kem_key}
            for site in values["sites"]
        ]
    return build(StudyPlan, values)


def seal_plan(plan: StudyPlan) -> SignedDocument:
    """The plan as the vendor sends it."""
    return seal(VENDOR, Context.PLAN, plan)


def make_approval(plan: StudyPlan, site_id: str, keys: dict[str, SiteKeys]) -> Approval:
    """The approval of one site, having confirmed all others."""
    return Approval(
        plan_digest=plan.digest(),
        study_id=plan.study_id,
        site_id=site_id,
        peers={
            peer: fingerprint(make_card(peer, theirs))
            for peer, theirs in keys.items()
            if peer != site_id
        },
        encapsulations={
            peer: keys[peer].kem.public_key().encapsulate()[1].hex()
            for peer in plan.encapsulated_for(site_id)
        },
        approved_at="2026-11-22T18:00:00Z",
    )


def sealed_approval(plan: StudyPlan, site_id: str, keys: dict[str, SiteKeys]) -> SignedDocument:
    """The approval as it is sent."""
    approval = make_approval(plan, site_id, keys)
    return seal(keys[site_id].approval, Context.APPROVAL, approval)


def sealed_stop(plan: StudyPlan, site_id: str, keys: dict[str, SiteKeys]) -> SignedDocument:
    """A stop as it is sent."""
    stop = Stop(
        plan_digest=plan.digest(), site_id=site_id, stopped_at=NOW, reason_code="steward.decision"
    )
    return seal(keys[site_id].approval, Context.STOP, stop)
