"""How do tests get a coordinator's desk with hospitals, studies, rounds and results in it?

Everything goes through the real functions: invites, signed requests, sealed plans, approvals
through the documents call, sums, signed finals and a release that every site signs.
"""

from __future__ import annotations

import base64
import json
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from numpy.typing import NDArray

from coordinator import pki
from coordinator.db import Database, Event
from coordinator.documents import Documents
from coordinator.enrolment import Authority, Enrolment
from coordinator.lifecycle import StudyState
from coordinator.studies import Studies, StudyRecord
from schemas.canonical import build, sha256_hex
from schemas.documents import PushRequest
from schemas.evaluation import (
    CALIBRATION,
    DISCRIMINATION,
    calibration_words,
    derive_release,
    join_sections,
)
from schemas.governance.approval import Stop
from schemas.governance.study import ModelTerms, StudyPlan
from schemas.identity import EnrolmentRequest, IdentityCard, seal_card
from schemas.models import (
    apply_sum,
    final_parameters,
    final_safetensors,
    initial_parameters,
    initial_state,
    model_hash,
    parameter_count,
)
from schemas.secagg.masking import MaskedSum
from schemas.signing import Context, SignedDocument, seal, sign
from schemas.wire import Final
from tests.support.factories import (
    SiteKeys,
    make_card,
    make_keys,
    plan_values,
    seal_plan,
    sealed_approval,
)
from tests.support.starts import sent_weights, start_weights

BUNDLE = "22" * 32
START = datetime(2026, 11, 22, 18, 0, 0, tzinfo=UTC)
NAMES = {
    "site-1": "Cleveland Clinic Foundation",
    "site-2": "Hungarian Institute of Cardiology",
    "site-3": "University Hospitals Zurich and Basel",
    "site-4": "VA Medical Center Long Beach",
}


@dataclass
class StillClock:
    """A clock that only moves when told to."""

    moment: datetime = START

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, **amount: float) -> None:
        """Move on."""
        self.moment += timedelta(**amount)


def named_card(site_id: str, keys: SiteKeys) -> IdentityCard:
    """A card with a hospital's name that people can read."""
    card = make_card(site_id, keys)
    return card.model_copy(update={"name": NAMES.get(site_id, card.name)})


def make_request(
    code: str, site_id: str, keys: SiteKeys, *, signer: SiteKeys | None = None
) -> bytes:
    """A sealed enrolment request as a hospital sends it."""
    tls = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site_id)]))
        .sign(tls, hashes.SHA256())
    )
    body = EnrolmentRequest(
        invite_code=code,
        card=seal_card(keys.identity, named_card(site_id, keys)),
        csr_pem=request.public_bytes(Encoding.PEM).decode("ascii"),
    )
    return seal((signer or keys).identity, Context.ENROLMENT, body).canonical()


def evaluation_vector(bins: int, *, cases: int = 400, shift: float = 0.3) -> NDArray[np.int64]:
    """Plausible counts: scores of both classes over the bins, and the four-field table."""
    centres = (np.arange(bins) + 0.5) / bins
    positive = np.exp(-(((centres - 0.5 - shift / 2) / 0.16) ** 2) / 2)
    negative = np.exp(-(((centres - 0.5 + shift / 2) / 0.16) ** 2) / 2)
    p = np.floor(positive / positive.sum() * cases).astype(np.int64)
    q = np.floor(negative / negative.sum() * cases).astype(np.int64)
    high = centres >= 0.5
    table = [p[high].sum(), q[high].sum(), q[~high].sum(), p[~high].sum()]
    scores = np.concatenate([np.repeat(centres, p), np.repeat(centres, q)])
    return join_sections(
        bins,
        {
            DISCRIMINATION: np.concatenate([p, q, np.array(table, dtype=np.int64)]),
            CALIBRATION: calibration_words(scores, np.arange(len(scores)) < p.sum()),
        },
    )


@dataclass
class Desk:
    """One coordinator's database with four hospitals."""

    home: Path
    clock: StillClock = field(default_factory=StillClock)
    keys: dict[str, SiteKeys] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.database = Database(self.home / "coordinator.db", clock=self.clock)
        self.enrolment = Enrolment(self.database)
        self.studies = Studies(self.database)
        self.documents = Documents(self.database)
        self.certificates = pki.make_authority(
            self.home / "authority", name="Test consortium", now=START
        )
        self.authority = Authority(
            name="Test consortium",
            api_url="https://127.0.0.1:1",
            gateway_url="https://127.0.0.1:2",
            ca_pem=self.certificates.ca_pem(),
        )

    def issue(self, csr_pem: str, site_id: str) -> str:
        """Sign a certificate request with the test authority."""
        return pki.issue_site(self.certificates, csr_pem, site_id, now=self.clock())

    def enrol(self, site_id: str, keys: SiteKeys | None = None) -> SiteKeys:
        """Invite and enrol one hospital."""
        own = keys or make_keys()
        invite = self.enrolment.invite(site_id, self.authority, valid_hours=24)
        self.enrolment.accept(
            make_request(invite.code, site_id, own),
            self.authority,
            issue=self.issue,
            register=lambda _key, site: 2**63 + int(site.rpartition("-")[2]),
        )
        self.keys[site_id] = own
        return own

    def enrol_four(self) -> Desk:
        """Enrol the four hospitals."""
        for site_id in NAMES:
            self.enrol(site_id)
        return self

    def plan(self, study_id: str = "heart", template: str = "heart", **changes: Any) -> StudyPlan:
        """Resolve a shipped template for the enrolled hospitals, with a noise already known."""
        folder = resources.files("coordinator.client") / "templates"
        draft = tomllib.loads((folder / f"{template}.toml").read_text(encoding="utf-8"))
        values = plan_values(self.keys) | draft | {"study_id": study_id}
        values["app_bundle_sha256"] = BUNDLE
        values["sites"] = [{**site, "name": NAMES[site["site_id"]]} for site in values["sites"]]
        for name, change in changes.items():
            merged = isinstance(change, dict) and isinstance(values.get(name), dict)
            values[name] = {**values[name], **change} if merged else change
        model = values["model"] | {"initial_weights_sha256": "00" * 32, "parameters": 1}
        terms = build(ModelTerms, model)
        values["model"] = model | {
            "initial_weights_sha256": sha256_hex(start_weights(terms)),
            "parameters": parameter_count(terms),
        }
        noise = {"noise_multiplier": 14.4487, "epsilon_two_hospitals": 2.1547}
        values["privacy"] = noise | values["privacy"]
        if values["privacy"]["epsilon_two_hospitals"] < values["privacy"]["epsilon"]:
            values["privacy"]["epsilon_two_hospitals"] = 2.2 * values["privacy"]["epsilon"]
        return build(StudyPlan, values)

    def weights(self, plan: StudyPlan) -> bytes:
        """The initial weights a plan names."""
        return start_weights(plan.model)

    def propose(self, plan: StudyPlan) -> StudyRecord:
        """Send a plan as a vendor does."""
        return self.studies.propose(
            seal_plan(plan).canonical(), sent_weights(plan.model), bundle_sha256=BUNDLE
        )

    def approve(self, plan: StudyPlan, *site_ids: str) -> None:
        """Hand in approvals through the documents call."""
        for site_id in site_ids or sorted(self.keys):
            self.push(site_id, "approval", sealed_approval(plan, site_id, self.keys))

    def stop(self, plan: StudyPlan, site_id: str, code: str = "plan.refused") -> None:
        """Hand in a stop."""
        stop = Stop(
            plan_digest=plan.digest(),
            site_id=site_id,
            stopped_at="2026-11-22T18:30:00Z",
            reason_code=code,
        )
        self.push(site_id, "stop", seal(self.keys[site_id].approval, Context.STOP, stop))

    def push(self, site_id: str, kind: Any, signed: SignedDocument) -> dict[str, Any]:
        """Hand in a signed document as the courier does."""
        body = base64.b64encode(signed.canonical()).decode("ascii")
        answer = self.documents.push(site_id, PushRequest(kind=kind, body=body).canonical())
        found: dict[str, Any] = json.loads(answer)
        return found

    def train(self, plan: StudyPlan, rounds: int, *, void: dict[int, str] | None = None) -> None:
        """Record rounds as the runner does; ``void`` names those whose first attempt fails."""
        digest = plan.digest()
        studies = self.studies
        if studies.by_digest(digest).state is not StudyState.TRAINING:
            studies.set_state(digest, StudyState.TRAINING)
        roster = sorted(self.keys)
        done = len(studies.summed_rounds(digest))
        for step in range(done, rounds):
            size = 4 * plan.sum_terms(step).words
            attempt = 0
            if void and step in void:
                studies.record_attempt_opened(
                    digest, kind="train", round=step, attempt=0, roster=roster
                )
                studies.record_attempt_closed(
                    digest,
                    kind="train",
                    round=step,
                    attempt=0,
                    state="void",
                    reason_code=void[step],
                )
                attempt = 1
            studies.record_attempt_opened(
                digest, kind="train", round=step, attempt=attempt, roster=roster
            )
            words = np.full(plan.sum_terms(step).words, 1000 * (step + 1), dtype=np.uint32)
            studies.store_sum(digest, step, MaskedSum(words, 7), attempt=attempt)
            studies.record_attempt_closed(
                digest,
                kind="train",
                round=step,
                attempt=attempt,
                state="summed",
                n_bytes=dict.fromkeys(roster, size),
            )
            self.clock.forward(seconds=2)
        with self.database.write(Event("test.seconds", digest)) as sql:
            # The still clock gives no durations; the page shall show plausible ones.
            sql.execute(
                "UPDATE attempts SET seconds = 1.2 + 0.04 * (round % 7) WHERE state = 'summed'"
            )

    def final_model(self, plan: StudyPlan) -> tuple[str, bytes]:
        """The model that follows from the stored sums."""
        state = initial_state(plan.model, initial_parameters(plan.model))
        for round_ in self.studies.summed_rounds(plan.digest()):
            stored = self.studies.sum_of(plan.digest(), round_)
            words = stored.summed.words.view(np.int32).astype(np.int64)
            state = apply_sum(state, words, plan)
        flat = final_parameters(state, plan.training)
        hashed = model_hash(flat, state.prepared)
        return hashed, final_safetensors(plan, flat, state.prepared)

    def sign_finals(self, plan: StudyPlan) -> str:
        """Let every site sign the final model; returns its hash."""
        digest = plan.digest()
        hashed, safetensors = self.final_model(plan)
        for site_id, keys in self.keys.items():
            final = Final(
                plan_digest=digest,
                site_id=site_id,
                steps=plan.training.steps,
                model_hash=hashed,
                last_sum_hash="44" * 32,
            )
            self.studies.record_final(plan, seal(keys.identity, Context.FINAL, final))
        self.studies.store_model(digest, hashed, safetensors)
        return hashed

    def evaluate(self, plan: StudyPlan, *, shift: float = 0.3) -> tuple[bytes, dict[str, str]]:
        """Open the evaluation; returns release bytes and every site's signature, not yet stored."""
        digest = plan.digest()
        hashed = self.sign_finals(plan)
        roster = sorted(self.keys)
        self.studies.set_state(digest, StudyState.EVALUATING)
        self.studies.record_attempt_opened(
            digest, kind="evaluate", round=0, attempt=0, roster=roster
        )
        vector = evaluation_vector(plan.evaluation.bins, shift=shift)
        body = derive_release(plan, hashed, roster, vector).canonical()
        signatures = {
            site: sign(keys.identity, Context.RELEASE, body) for site, keys in self.keys.items()
        }
        return body, signatures

    def finish(self, plan: StudyPlan, *, shift: float = 0.3) -> None:
        """Evaluate, store the release and mark the study done."""
        digest = plan.digest()
        body, signatures = self.evaluate(plan, shift=shift)
        self.studies.store_release(plan, body, signatures)
        size = 4 * (2 * plan.evaluation.bins + 4)
        self.studies.record_attempt_closed(
            digest,
            kind="evaluate",
            round=0,
            attempt=0,
            state="summed",
            n_bytes=dict.fromkeys(sorted(self.keys), size),
        )
        self.studies.set_state(digest, StudyState.DONE)


def seed_four_states(desk: Desk) -> None:
    """Fill a desk with a waiting, a running, a done and an early-ended study."""
    desk.enrol_four()
    for number, site_id in enumerate(sorted(desk.keys)):
        traffic = {(site_id, "/v1/fleet/push-object"): [57, 410_000 + 9_000 * number]}
        desk.database.tally_transport(traffic)
    done = desk.plan("heart", "heart")
    desk.propose(done)
    desk.approve(done)
    desk.train(done, done.training.steps, void={4: "attempt.site_left"})
    desk.finish(done, shift=0.27)
    desk.clock.forward(minutes=3)
    early = desk.plan("heart-pilot", "heart", title="Pilot of the heart study with fewer values")
    desk.propose(early)
    desk.approve(early)
    desk.train(early, 5, void={2: "site.unreachable", 3: "attempt.site_left"})
    desk.stop(early, "site-2", "stop.steward")
    desk.stop(early, "site-3", "stop.steward")
    desk.studies.set_state(early.digest(), StudyState.ENDED_EARLY, "study.too_few_sites")
    desk.clock.forward(minutes=3)
    running = desk.plan("cxr", "cxr")
    desk.propose(running)
    desk.approve(running)
    desk.train(running, 17, void={6: "site.unreachable"})
    desk.studies.record_attempt_opened(
        running.digest(), kind="train", round=17, attempt=0, roster=sorted(desk.keys)
    )
    desk.clock.forward(minutes=3)
    waiting = desk.plan("heart-followup", "heart", title="Heart disease, second year of follow-up")
    desk.propose(waiting)
    desk.approve(waiting, "site-1", "site-4")
    desk.clock.forward(minutes=1)
