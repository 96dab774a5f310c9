"""Do the drafts, numbers and names on TRAINING.md hold in this version?"""

from __future__ import annotations

import math
import re
import tomllib
from typing import Any

import pytest

from coordinator.client import drafts
from coordinator.client.drafts import Parties
from schemas.governance.preparation import preparation_norm
from schemas.governance.study import Architecture, Feature, ModelTerms, StudyPlan, TrainingTerms
from schemas.limits import WORD_BOUND
from schemas.models import parameter_count
from schemas.privacy.accounting import epsilon
from schemas.privacy.calibration import calibrate_noise
from schemas.signing import public_hex
from tests.support.clauses import SPEC
from tests.support.desk import START, named_card
from tests.support.factories import VENDOR, make_keys

PAGE = (SPEC / "TRAINING.md").read_text("utf-8")
TEXT = " ".join(PAGE.split())
MARK = "▪"
FRAGMENTS = re.findall(r"^```toml\n# into: ([a-z-]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SITES = ("site-1", "site-2", "site-3", "site-4")


@pytest.fixture(scope="module")
def parties() -> Parties:
    cards = [named_card(site, make_keys()) for site in SITES]
    return Parties("Example Vendor", public_hex(VENDOR), cards, "22" * 32)


def template(name: str) -> dict[str, Any]:
    return tomllib.loads(drafts.start_draft("my-study", name))


def resolved(draft: dict[str, Any], parties: Parties) -> StudyPlan:
    return drafts.resolve(draft, parties, now=START, entropy=lambda n: bytes(n))[0]


def with_fragment(name: str, text: str) -> dict[str, Any]:
    """A template's draft with a fragment's values in the place of its own."""
    draft = template(name)
    for table, values in tomllib.loads(text).items():
        draft[table] = {**draft.get(table, {}), **values}
    return draft


@pytest.mark.parametrize("name", drafts.template_names())
def test_a_template_makes_a_plan_that_keeps_its_promise(name: str, parties: Parties) -> None:
    plan = resolved(template(name), parties)
    assert plan.privacy.epsilon_two_hospitals > plan.privacy.epsilon
    for round_ in (0, plan.preparation_rounds):
        assert plan.headroom(plan.sum_terms(round_)) > 0
    assert plan.model.parameters == parameter_count(plan.model)


@pytest.mark.parametrize(("name", "text"), FRAGMENTS)
def test_a_fragment_makes_a_plan_as_the_page_says(name: str, text: str, parties: Parties) -> None:
    draft = with_fragment(name, text)
    plan = resolved(draft, parties)
    for table, values in tomllib.loads(text).items():
        assert getattr(plan, table) is not None
        for key, value in values.items():
            said = getattr(getattr(plan, table), key)
            assert said == (tuple(value) if isinstance(value, list) else value), key
    assert plan.digest() != resolved(template(name), parties).digest() or "dp-fedsgd" in text


def test_every_choice_has_a_fragment_or_a_template(parties: Parties) -> None:
    plans = [resolved(with_fragment(*each), parties) for each in FRAGMENTS]
    plans += [resolved(template(name), parties) for name in drafts.template_names()]
    assert {plan.training.algorithm for plan in plans} == {"dp-fedsgd", "dp-fedavg"}
    assert {plan.training.optimiser for plan in plans} == {"sgd", "adam"}
    assert {plan.training.sampling for plan in plans} == {"full", "poisson"}
    assert {plan.preparation is None for plan in plans} == {True, False}
    assert {plan.model.architecture for plan in plans} == set(Architecture) - {
        Architecture.RESNET18  # only from a vendor's file
    }


def test_a_fragment_with_a_wrong_field_is_found(parties: Parties) -> None:
    """The guard, broken on purpose."""
    name, text = next(each for each in FRAGMENTS if "local_divisor" in each[1])
    with pytest.raises(Exception, match="local_divisor"):
        resolved(with_fragment(name, text.replace("local_divisor = 125.0", "")), parties)
    with pytest.raises(Exception, match="not known"):
        resolved(with_fragment(name, text.replace("local_divisor", "local_size")), parties)


@pytest.mark.parametrize("name", drafts.template_names())
def test_what_a_template_offers_in_comments_is_a_field(name: str) -> None:
    text = drafts.start_draft("my-study", name)
    offered = re.findall(r"^# ([a-z_]+) = ", text, flags=re.MULTILINE)
    known = {*TrainingTerms.model_fields, *Feature.model_fields, *ModelTerms.model_fields}
    known |= {"epsilon", "retry_cap", "integer_clip"}  # of [preparation]
    assert set(offered) <= known, set(offered) - known
    assert "schemas/spec/TRAINING.md" in text


# --- numbers ----------------------------------------------------------------------------------


def sigma(steps: int, rate: float = 1.0) -> float:
    return calibrate_noise(epsilon=1.0, delta=1e-5, sampling_rate=rate, steps=steps)


def test_the_table_of_noise_is_the_accountants() -> None:
    rows = re.findall(
        rf"^\| (\d+) \| ([\d.]+) \| ([\d.]+) {MARK} \| ([\d.]+) {MARK} \|$", PAGE, re.MULTILINE
    )
    assert len(rows) == 5
    for steps, rate, noise, relative in rows:
        found = sigma(int(steps), float(rate))
        assert float(noise) == found
        assert float(relative) == round(found / float(rate) / math.sqrt(int(steps)), 2)


def test_retries_cost_what_the_page_says() -> None:
    without, three, fifteen = sigma(30), sigma(33), sigma(45)
    said = f"σ = {without:.2f} {MARK} without retries, {three:.2f} {MARK} with 3 and "
    assert f"{said}{fifteen:.2f} {MARK} with 15" in TEXT


def test_three_hospitals_cost_what_the_page_says() -> None:
    full, poisson = (
        epsilon(
            noise_multiplier=sigma(steps, rate),
            sampling_rate=rate,
            steps=steps,
            delta=1e-5,
            hospitals_per_patient=3,
        )
        for steps, rate in ((15, 1.0), (150, 0.1))
    )
    assert f"ε = {full:.2f} {MARK} with the full batch is {poisson:.2f} {MARK} with 150" in TEXT


def test_local_noise_costs_what_the_page_says(parties: Parties) -> None:
    """The mean over n hospitals of whole noises, against shares of it that add up without t."""
    for n, said in ((4, "1.7"), (10, "3")):
        t = 1
        shared, local = math.sqrt(n / (n - t)), math.sqrt(n)
        assert said == f"{local / shared:.2g}"
        assert f"{said} {MARK} for n = {n}" in TEXT


def test_the_preparations_noise_is_what_the_page_says(parties: Parties) -> None:
    plan = resolved(template("tabular-prepared"), parties)
    assert plan.preparation is not None
    assert (plan.preparation.epsilon, plan.preparation.attempts) == (0.3, 3)
    assert [group.use for group in plan.preparation_groups] == ["standardise"] * 3
    patients = plan.preparation.noise_multiplier * preparation_norm(plan.preparation_groups)
    assert f"ε = 0.3 over three attempts {patients:.0f} {MARK} patients" in TEXT
    assert f"{patients / 2000:.0%}" == "3%"


def test_parameters_of_the_table_are_the_layouts() -> None:
    rows = dict(re.findall(r"\| `([a-z0-9-]+)` \| ([\d ]+) for 28 × 28 \|", PAGE))
    assert len(rows) == 3
    for name, said in rows.items():
        terms = {"image_rows": 28, "image_columns": 28, "initialisation_seed": "00" * 32}
        model = ModelTerms(
            architecture=Architecture(name),
            initial_weights_sha256="00" * 32,
            parameters=1,
            **terms,  # type: ignore[arg-type]
        )
        assert int(said.replace(" ", "")) == parameter_count(model), name


def test_the_integer_clip_of_the_page_fits_so_many_patients() -> None:
    assert 8000 * 2**18 < WORD_BOUND < 8200 * 2**18


def test_every_marked_number_is_recomputed() -> None:
    assert PAGE.count(MARK) == 1 + 10 + 3 + 2 + 2 + 1  # the explanation, and the tests above
