"""What may be said about a model on held-out patients, from the sum of the sites' counts?"""

from __future__ import annotations

from schemas.evaluation.bins import bin_index as bin_index
from schemas.evaluation.bins import logit_edges as logit_edges
from schemas.evaluation.calibration import calibration_words as calibration_words
from schemas.evaluation.release import Release as Release
from schemas.evaluation.release import RocPoint as RocPoint
from schemas.evaluation.release import derive_release as derive_release
from schemas.evaluation.sections import CALIBRATION as CALIBRATION
from schemas.evaluation.sections import DISCRIMINATION as DISCRIMINATION
from schemas.evaluation.sections import evaluation_length as evaluation_length
from schemas.evaluation.sections import join_sections as join_sections
from schemas.evaluation.statistics import AurocEstimate as AurocEstimate
from schemas.evaluation.statistics import auroc_from_histograms as auroc_from_histograms
from schemas.evaluation.statistics import wilson_interval as wilson_interval
