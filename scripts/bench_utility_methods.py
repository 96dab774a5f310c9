"""How is one model trained by each of the four methods that are compared?

    pooled    all rows in one place, no privacy: what is lost to privacy at all
    central   one trusted party, one draw of noise of variance sigma^2 C^2 a step
    ours      every site's integer sum with its share of the noise (t = 1), added modulo 2^32
    fedavg    every site trains with its whole noise by Opacus' own optimiser, then the average

Masks are left out of "ours": they cancel to the last bit. `secure_sum_agrees` shows it on a step of
the very run, through READY, cohort, masks and the check of the sum.

"central" and "ours" of one seed are paired: their noise points the same way and differs in length
alone, so what the shares cost is not hidden by luck (common random numbers).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch.nn.functional import binary_cross_entropy_with_logits

from schemas.governance.study import StudyPlan
from schemas.models import (
    apply_sum,
    final_parameters,
    initial_parameters,
    initial_state,
)
from schemas.models.optimiser import OptimiserState
from schemas.privacy import calibrate_noise
from schemas.secagg import Party, check_sum
from schemas.secagg.quantise import QuantisedUpdate
from scripts.baselines import Draw, patient_auroc, train_centrally, train_without_privacy
from scripts.bench_utility_entropy import SeededEntropy, torch_seed
from scripts.bench_utility_studies import CONSTANTS, DELTA, Constants, Study, plan_for
from site_node.cohort.features import Features
from site_node.training.dp_sgd import clipped_integer_sum, noised_update
from site_node.training.networks import build_network
from tests.support.secure_sum import Consortium, summed

NOISY = ("central", "ours", "fedavg")
_WORD = 1 << 32


def run_name(study: str, epsilon: float, seed: int, method: str) -> str:
    """Name one run; its noise follows from the name."""
    return f"{study}/{epsilon:g}/{method}/{seed}"


def run_auroc(study: Study, method: str, epsilon: float, seed: int) -> float:
    """Train once and give the exact AUROC over the test patients.

    Args:
        study: the rows.
        method: "pooled" (epsilon and seed are then without effect) or one of `NOISY`.
        epsilon: what the whole training may cost at delta 1e-5, patient level.
        seed: number of the noise.

    Raises:
        ValueError: there is no such method.
    """
    # "central" reads the stream of "ours": it is the same noise, as of one party.
    stream = "ours" if method == "central" else method
    entropy = SeededEntropy(run_name(study.name, epsilon, seed, stream))
    plan = our_plan(study.name, epsilon)
    match method:
        case "pooled":
            flat = train_without_privacy(plan, study.pooled)
        case "central":
            draw = one_draw(plan, list(study.train), entropy)
            flat = train_centrally(plan, study.pooled, entropy, draw=draw)
        case "ours":
            flat = train_with_shares(plan, study.train, entropy)
        case "fedavg":
            constants = CONSTANTS[study.name]["fedavg"]
            seed_ = torch_seed(run_name(study.name, epsilon, seed, method))
            flat = train_averaged(plan, study.train, constants, epsilon, seed_)
        case _:
            raise ValueError(f"no method is called {method}")
    return patient_auroc(plan, flat, study.test)


@lru_cache(maxsize=64)
def our_plan(name: str, epsilon: float) -> StudyPlan:
    """Give the plan of our method and of the central run."""
    return plan_for(name, CONSTANTS[name]["ours"], epsilon)


def peer_noise(constants: Constants, epsilon: float) -> float:
    """Give the peer's noise multiplier: the least for all its local steps, without retries."""
    return _calibrated(constants.steps * constants.local_steps, epsilon)


@lru_cache(maxsize=64)
def _calibrated(steps: int, epsilon: float) -> float:
    return calibrate_noise(epsilon=epsilon, delta=DELTA, sampling_rate=1.0, steps=steps)


def site_updates(
    plan: StudyPlan, state: OptimiserState, train: Mapping[str, Features], entropy: SeededEntropy
) -> dict[str, NDArray[np.int64]]:
    """Give what every site would mask in the next round, by the product's own functions."""
    terms = plan.sum_terms(plan.preparation_rounds)
    updates = {}
    for site, features in train.items():
        everyone = np.ones(features.patients, dtype=np.bool_)
        clipped = clipped_integer_sum(plan, state, features, everyone)
        updates[site] = noised_update(plan, terms, clipped, len(train), entropy).values
    return updates


def one_draw(plan: StudyPlan, sites: Sequence[str], entropy: SeededEntropy) -> Draw:
    """Give one party's noise of a step, paired with that of the sites' shares.

    The shares' sum is shortened by sqrt((|U| - t) / |U|) and rounded to the grid. With a standard
    deviation of more than 10^5 grid units nobody could tell it from one discrete Gaussian draw.
    """
    terms = plan.sum_terms(plan.preparation_rounds)
    shorter = math.sqrt(plan.noise_sharers(len(sites), terms) / len(sites))

    def draw(deviation: float, length: int) -> NDArray[np.int64]:
        assert deviation == terms.noise_multiplier * terms.integer_clip
        nothing = QuantisedUpdate(np.zeros(length, dtype=np.int64))
        shares = [noised_update(plan, terms, nothing, len(sites), entropy).values for _ in sites]
        noise: NDArray[np.int64] = np.rint(np.sum(shares, axis=0) * shorter).astype(np.int64)
        return noise

    return draw


def modular_sum(updates: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Add modulo 2^32 and take the representative nearest to zero, as a site opens a sum."""
    words = np.zeros(len(next(iter(updates.values()))), dtype=np.uint32)
    for values in updates.values():
        words += (values % _WORD).astype(np.uint32)
    return words.view(np.int32).astype(np.int64)


def train_with_shares(
    plan: StudyPlan, train: Mapping[str, Features], entropy: SeededEntropy
) -> NDArray[np.float64]:
    """Run the plan as its sites do, masks left out."""
    state = initial_state(plan.model, initial_parameters(plan.model))
    for _ in range(plan.training.steps):
        state = apply_sum(state, modular_sum(site_updates(plan, state, train, entropy)), plan)
    return final_parameters(state, plan.training)


def secure_sum_agrees(study: Study, epsilon: float) -> bool:
    """Whether the first step's updates give the same integers through the real secure sum."""
    plan = our_plan(study.name, epsilon)
    parties = {s: Party(s, keys.identity, keys.study, {}) for s, keys in study.keys.items()}
    entropy = SeededEntropy(run_name(study.name, epsilon, 0, "ours"))
    state = initial_state(plan.model, initial_parameters(plan.model))
    updates = site_updates(plan, state, study.train, entropy)
    keys = Consortium(plan, parties).keys(round=0)
    masked = summed(keys, updates)
    expected = modular_sum(updates)
    return all(np.array_equal(check_sum(each, masked), expected) for each in keys.values())


def train_averaged(
    plan: StudyPlan,
    train: Mapping[str, Features],
    constants: Constants,
    epsilon: float,
    seed: int,
) -> NDArray[np.float64]:
    """Run DP-SGD at every site by Opacus and average by size, the plan's model, full batches.

    One row is one patient in both data sets, so Opacus' guarantee per row is one per patient.

    Args:
        plan: gives the model; its training terms are not used.
        train: training rows of each site.
        constants: of the peer.
        epsilon: of the whole training, for each site's patients.
        seed: of Opacus' noise.
    """
    generator = torch.Generator().manual_seed(seed)
    noise, rate = peer_noise(constants, epsilon), constants.learning_rate(epsilon)
    sites = [LocalTrainer(plan, rows, noise, constants.clip, generator) for rows in train.values()]
    patients = sum(rows.patients for rows in train.values())
    model = initial_parameters(plan.model)
    velocity, average = np.zeros_like(model), np.zeros_like(model)
    for step in range(constants.steps):
        change = np.zeros_like(model)
        for site in sites:
            local = site.train(model, rate, constants.local_steps)
            change += (model - local) * (len(site.y) / patients)
        velocity = constants.momentum * velocity + change
        model = model - velocity
        if step >= constants.average_from_step:
            average += (model - average) / (step - constants.average_from_step + 1)
    return average if constants.average_from_step < constants.steps else model


class LocalTrainer:
    """One site's private training by Opacus 1.6: its wrapper, its clipping, its noise."""

    def __init__(
        self,
        plan: StudyPlan,
        rows: Features,
        noise: float,
        clip: float,
        generator: torch.Generator,
    ) -> None:
        """Wrap the plan's network; one row must be one patient."""
        if rows.patients != len(rows.y):
            raise ValueError("Opacus protects rows: a patient has one here")
        self.x = torch.from_numpy(rows.x)
        self.y = torch.from_numpy(rows.y.astype(np.float32))
        network = build_network(plan.model, initial_parameters(plan.model))
        self._network = GradSampleModule(network, batch_first=True, loss_reduction="mean")
        self._parameters = list(network.parameters())
        self._optimiser = DPOptimizer(
            torch.optim.SGD(self._parameters, lr=1.0),
            noise_multiplier=noise,
            max_grad_norm=clip,
            expected_batch_size=len(rows.y),
            loss_reduction="mean",
            generator=generator,
        )

    def train(
        self, model: NDArray[np.float64], rate: float, local_steps: int
    ) -> NDArray[np.float64]:
        """Give the model after some private full-batch steps from ``model``, (d,)."""
        torch.nn.utils.vector_to_parameters(
            torch.from_numpy(model.astype(np.float32)), self._parameters
        )
        self._optimiser.param_groups[0]["lr"] = rate
        for _ in range(local_steps):
            self._optimiser.zero_grad()
            with warnings.catch_warnings():
                # The inputs carry no gradient, on purpose.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                loss = binary_cross_entropy_with_logits(self._network(self.x), self.y)
                torch.autograd.backward(loss)
            self._optimiser.step()
        flat = torch.nn.utils.parameters_to_vector(self._parameters).detach()
        after: NDArray[np.float64] = flat.double().numpy()
        return after
