"""What does flwr 1.41 do to mask a vector? Its own functions in its own order, to be timed.

The steps are those of `_collect_masked_vectors` in flwr's `secaggplus_mod` between quantisation and
the reply, without its key agreements: private mask, a mask per peer, reduction.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from numpy.typing import NDArray

MOD_RANGE = 1 << 32  # the default of flwr's workflow


def flwr_masking(quantised: NDArray[np.int64], streams: int) -> Callable[[], list[NDArray[Any]]]:
    """Prepare one masking of a quantised vector of shape (d,) with ``streams`` masks in all."""
    private_seed = os.urandom(32)
    keys = [base64.urlsafe_b64encode(os.urandom(32)) for _ in range(streams - 1)]

    def run() -> list[NDArray[Any]]:
        parameters = factor_combine(1, [quantised])
        dimensions = [array.shape for array in parameters]
        private_mask = pseudo_rand_gen(private_seed, MOD_RANGE, dimensions)
        parameters = parameters_addition(parameters, private_mask)
        for place, key in enumerate(keys):
            mask = pseudo_rand_gen(key, MOD_RANGE, dimensions)
            combine = parameters_addition if place % 2 else parameters_subtraction
            parameters = combine(parameters, mask)
        return parameters_mod(parameters, MOD_RANGE)

    return run
