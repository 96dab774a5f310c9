"""Into which bin does a score fall?

Edges are spaced by sinh on the logit axis: narrow around a score of one half, where the scores of
a private, hence squeezed, model lie and the classes overlap; wide for confident scores. The
certified error of the AUROC shrinks with the number of patients of both classes in one bin, so
spacing matters more than count. The two outer bins are open.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Logit beyond which all scores share an outer bin, and the width of the dense part in logits.
_OUTER_LOGIT = 32.0
_DENSE_LOGIT = 0.5
# TP, FP, TN, FN follow the two histograms.
CONFUSION_CELLS = 4


@lru_cache(maxsize=8)
def _edges(bins: int) -> tuple[float, ...]:
    top = math.asinh(_OUTER_LOGIT / _DENSE_LOGIT)
    last = max(bins - 2, 1)
    places = (top * (2 * k - (bins - 2)) / last for k in range(bins - 1))
    # Six decimals, so that mathematical libraries that differ in the last bit agree.
    return tuple(round(_DENSE_LOGIT * math.sinh(place), 6) for place in places)


def logit_edges(bins: int) -> NDArray[np.float64]:
    """Give the bins - 1 inner edges on the logit axis, ascending.

    Args:
        bins: number of bins per class, 2 to 100 (the plan's validator holds the upper limit).
    """
    return np.array(_edges(bins), dtype=np.float64)


def bin_index(logits: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Give each logit's bin, 0 to bins - 1; a value on an edge falls into the upper bin.

    Not-a-number counts as the lowest score, so that every patient is counted once.
    """
    clean = np.nan_to_num(logits, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    return np.searchsorted(logit_edges(bins), clean, side="right").astype(np.int64)
