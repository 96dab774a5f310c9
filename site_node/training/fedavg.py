"""Which change of the model does this site send in one round of DP-FedAvg?

Every local step is a step of DP-SGD as Opacus takes it (Abadi et al. 2016, algorithm 1), with the
patient as the unit and this site's noise alone: the clipped integer sum of the sampled patients,
plus a discrete Gaussian of the whole sigma·C_int, divided by the plan's constant. What the steps
changed is then clipped and truncated; the secure sum adds the hospitals' changes and hides each.

| what happens to the change | what it costs |
| --- | --- |
| clipped to update_clip | no budget: it is computed from sums that carry their noise already |
| truncated onto update_clip/integer_clip | none; at most one grid unit a coordinate is lost |
| not finite (the steps diverged) | the hospital adds zeros: no error a peer could see |

There is nothing to share: a hospital's noise does not rely on the others' (PRIVACY-13).
"""

from __future__ import annotations

from dataclasses import replace

from schemas.entropy import Entropy
from schemas.governance.study import StudyPlan
from schemas.models.optimiser import OptimiserState
from schemas.secagg.quantise import NoisedUpdate, integer_gradient_sum
from site_node.cohort.features import Features
from site_node.training.dp_sgd import clipped_integer_sum
from site_node.training.noise import discrete_gaussian
from site_node.training.sampling import poisson_mask


def local_update(
    plan: StudyPlan, state: OptimiserState, features: Features, entropy: Entropy
) -> NoisedUpdate:
    """Take the plan's local private steps and give the clipped change of the model.

    Args:
        plan: the approved plan, with the algorithm dp-fedavg.
        state: the model of this round, where every site starts from.
        features: training rows grouped by patient; may be none.
        entropy: the operating system's generator; coins and noise are fresh in every step.

    Returns:
        int64 (d,) in units of update_clip/integer_clip, of L2 norm at most integer_clip.

    Raises:
        ValueError: the plan's algorithm is another one.
    """
    training = plan.training
    if not training.is_local:
        raise ValueError("local steps belong to dp-fedavg")
    sigma = plan.privacy.noise_multiplier * training.integer_clip
    unit = training.clip / training.integer_clip / training.local_divisor
    local = state.parameters.copy()
    for _ in range(training.local_steps):
        chosen = poisson_mask(features.patients, training.sampling_rate, entropy)
        here = replace(state, parameters=local)
        summed = clipped_integer_sum(plan, here, features, chosen).values
        noise = discrete_gaussian(sigma, len(local), entropy)
        local = local - (summed + noise) * (unit * training.local_learning_rate)
    change = (local - state.parameters)[None, :]
    return NoisedUpdate(integer_gradient_sum(change, training.update_clip, training.integer_clip))
