"""What do two histograms and four counts say about discrimination, and how certain is it?

Everything up to the last square root is exact rational arithmetic, so every site and every later
auditor derives the same digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

# 97.5 % point of the normal distribution: two-sided 95 % intervals.
Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class AurocEstimate:
    """The AUROC of binned scores.

    Attributes:
        auroc: exact AUROC of the binned scores (a tie counts half).
        variance: DeLong's variance of it.
        bound: largest possible distance to the AUROC of the unbinned scores.
    """

    auroc: Fraction
    variance: Fraction
    bound: Fraction

    def interval(self) -> tuple[float, float]:
        """Give the 95 % normal interval around the estimate, cut to [0, 1]."""
        half = Z_95 * math.sqrt(float(self.variance))
        centre = float(self.auroc)
        return max(0.0, centre - half), min(1.0, centre + half)


def auroc_from_histograms(positives: Sequence[int], negatives: Sequence[int]) -> AurocEstimate:
    """Compute AUROC, DeLong variance and certified bound from class-wise counts per bin.

    A patient's placement value is the share of the other class below it, ties half (DeLong,
    DeLong & Clarke-Pearson 1988; Sun & Xu 2014). It depends on the bin only, so the histogram
    suffices. Two patients of one bin may truly be ordered either way: each such pair is counted
    half and is off by at most half, which gives the bound 1/2 sum p_b q_b / (n1 n0).

    Args:
        positives: diseased patients per bin, ascending score; at least two in all.
        negatives: the others, same bins; at least two in all.
    """
    n1, n0 = sum(positives), sum(negatives)
    below_q, below_p = 0, 0
    placed: list[tuple[int, Fraction, int, Fraction]] = []
    twice_wins, tied = 0, 0
    for p, q in zip(positives, negatives, strict=True):
        v10 = Fraction(2 * below_q + q, 2 * n0)
        v01 = 1 - Fraction(2 * below_p + p, 2 * n1)
        placed.append((p, v10, q, v01))
        twice_wins += p * (2 * below_q + q)
        tied += p * q
        below_p += p
        below_q += q
    auroc = Fraction(twice_wins, 2 * n1 * n0)
    s10 = sum((p * (v10 - auroc) ** 2 for p, v10, _, _ in placed), Fraction(0)) / (n1 - 1)
    s01 = sum((q * (v01 - auroc) ** 2 for _, _, q, v01 in placed), Fraction(0)) / (n0 - 1)
    return AurocEstimate(auroc, s10 / n1 + s01 / n0, Fraction(tied, 2 * n1 * n0))


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Give the 95 % Wilson score interval of a proportion (Wilson 1927); trials at least one."""
    share = successes / trials
    z2 = Z_95 * Z_95
    denominator = 1.0 + z2 / trials
    centre = (share + z2 / (2.0 * trials)) / denominator
    half = Z_95 * math.sqrt(share * (1.0 - share) / trials + z2 / (4.0 * trials * trials))
    half /= denominator
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def thinned_roc(
    positives: Sequence[int], negatives: Sequence[int], minimum: int
) -> list[tuple[int, int]]:
    """Give cumulative (false positives, true positives) of the ROC points that may be shown.

    Walking down from the highest score, a point is kept once at least `minimum` diseased AND at
    least `minimum` other patients lie between it and the point kept before. The curve's end takes
    the place of the last kept point where the rest holds fewer of either class. So every step
    between neighbouring points, the first and the last included, holds at least `minimum`
    patients of both classes.
    """
    total_p, total_q = sum(positives), sum(negatives)
    points = [(0, 0)]
    p, q = 0, 0
    for here_p, here_q in zip(reversed(positives), reversed(negatives), strict=True):
        p += here_p
        q += here_q
        last_q, last_p = points[-1]
        enough_since = p - last_p >= minimum and q - last_q >= minimum
        enough_left = total_p - p >= minimum and total_q - q >= minimum
        if enough_since and enough_left:
            points.append((q, p))
    return [*points, (total_q, total_p)]
