"""How large may anything be, in which unit, and why?"""

from __future__ import annotations

from typing import Final

MAX_SITES: Final = 200
"""Sites in one plan. The pairwise graph is complete, so keys and shares grow with the square."""

MAX_CARD_BYTES: Final = 16 * 1024
"""Bytes of a signed identity card: about 1 KiB real; leaves room for a long hospital name."""

MAX_ENROLMENT_BYTES: Final = 64 * 1024
"""Bytes of a sealed enrolment request: a card and a certificate request, both base64."""

MAX_INVITE_BYTES: Final = 32 * 1024
"""Bytes of an invite file: one CA certificate in PEM and a few addresses."""

MAX_CERTIFICATE_BYTES: Final = 16 * 1024
"""Characters of one PEM text: an EC P-256 certificate is below 2 KiB."""

MAX_PLAN_BYTES: Final = 512 * 1024
"""Bytes of a plan: 200 sites of about 600 bytes, and some thousands of feature levels."""

MAX_HYBRID_SITES: Final = 32
"""Sites in a plan with a hybrid pair root: an approval carries a ciphertext for each later peer."""

MAX_APPROVAL_BYTES: Final = 128 * 1024
"""Bytes of an approval or a stop: a fingerprint for each of 200 peers, or with a hybrid pair root
31 fingerprints and 31 ciphertexts of 1088 bytes in hexadecimal, about 72 KB."""

MAX_PLAN_DAYS: Final = 731
"""Days from creation to expiry: nobody should be bound by what a predecessor approved."""

MAX_COLUMNS: Final = 2_000
"""Columns in a data contract, features in a model: wide tables exist, wider ones are mistakes."""

MAX_CODES: Final = 1_000
"""Codes of one column or levels of one feature: each is a model input."""

MAX_PARAMETERS: Final = 100_000_000
"""Model parameters: four bytes each per upload, so 400 MB a step, measured through every hop."""

MAX_WEIGHTS_BYTES: Final = 96 * 1024 * 1024
"""Bytes of a vendor's own weights: 12.5 million float64 values, room for a ResNet-18 (89 MB). They
travel whole and in base64, once to the coordinator and once to each hospital."""

MAX_STEPS: Final = 10_000
"""Optimiser steps of a plan: each is an exchange between all sites."""

MAX_HIDDEN_LAYERS: Final = 4
"""Hidden layers of an mlp: tabular medical data reward no more."""

MAX_HIDDEN_WIDTH: Final = 4_096
"""Units of one hidden layer: four such layers stay below `MAX_PARAMETERS`."""

MAX_TIME_INTERVALS: Final = 100
"""Intervals of follow-up of a Cox model: each is a parameter, and needs events inside it."""

MAX_LOCAL_STEPS: Final = 1_000
"""Private steps a hospital takes between two sums: each costs budget."""

MAX_FEATURE_BINS: Final = 100
"""Bins of one feature: each is a model input."""

QUANTILE_CELLS: Final = 64
"""Cells of the noised histogram from which bin edges are read: each holds its own noise."""

MAX_IMAGE_SIDE: Final = 1_024
"""Pixels on one side of a model input: bounds memory of per-patient gradients."""

MAX_PATIENTS: Final = 10_000_000
"""Patients of all sites together: bounds sums; more would leave under eight bits a patient."""

MAX_BINS: Final = 100
"""Histogram bins per class in an evaluation: more would put single patients into bins."""

MIN_ROC_PATIENTS: Final = 10
"""Patients between two released ROC points: the usual threshold of statistical disclosure."""

MAX_DELTA: Final = 1e-5
"""Largest delta of any plan (no unit); besides this, delta <= 1/(10 N of the smallest site)."""

MAX_EPSILON: Final = 20.0
"""Largest epsilon of any plan (no unit): beyond it the number protects nobody."""

MIN_CONSTANT: Final = 1e-9
"""Smallest clip, learning rate or divisor: far below it float64 loses digits, and whether a
gradient then still fits the clip would depend on the patient."""

MIN_INTEGER_CLIP: Final = 2**8
"""Grid units of the clip norm: fewer and truncation alone distorts the gradient."""

MAX_TRUNCATION_LOSS: Final = 0.01
"""Share of the clip norm that truncation to the grid may lose: sqrt(parameters)/integer_clip."""

WORD_BOUND: Final = 2**31
"""Grid units: a signed 32-bit word holds sums below this; reaching it wraps to the other sign."""

NOISE_HEADROOM_SIGMAS: Final = 12.0
"""Standard deviations of noise that must fit beside the patients' sum: P(beyond) < 1e-32."""

MIN_NOISE_SHARE: Final = 8.0
"""Grid units of one site's noise share: above it a sum of discrete Gaussians is one, to 1e-270."""

MAX_NOISE_SHARE: Final = 1e7
"""Grid units of one site's noise share: the sampler's tables reach so far."""

MAX_HEADER_BYTES: Final = 32 * 1024 * 1024
"""Bytes of a message header: all READYs (their fields bound each to 58 kB) and all approvals of 200
sites."""

MAX_ANSWER_HEADER_BYTES: Final = 256 * 1024
"""Bytes of the header of a site's answer: at most one READY of 200 sites, or 200 shares."""

MAX_FRAME_BYTES: Final = 448 * 1024 * 1024
"""Bytes of a whole message: a header and one sum of the largest model (four bytes each)."""

PIECE_BYTES: Final = 2 * 1024 * 1024
"""Bytes of one piece of a body: two pieces at a time pass within Flower's 30 s at 1.2 Mbit/s."""

MAX_PIECES: Final = MAX_FRAME_BYTES // PIECE_BYTES
"""Pieces of one body: what the longest message needs."""

MAX_TREE_OBJECTS: Final = MAX_PIECES + 3
"""Transport objects of one message: its pieces, their head, their list and the envelope."""

MAX_OBJECT_BYTES: Final = PIECE_BYTES + 64 * 1024
"""Bytes of one transport object in its HTTP body: a piece, and the names and ids around it."""

MAX_RELEASE_BYTES: Final = 64 * 1024
"""Bytes of a release: scalars, at most 100 ROC points, and a roster of 200 sites."""

MAX_AUDIT_EVENT_BYTES: Final = 16 * 1024
"""Bytes of one audit event: names, digests and counts, never data."""

MAX_AUDIT_ATTRIBUTES: Final = 32
"""Attributes of one audit event: an event is a fact, not a report."""

MAX_NAME_CHARACTERS: Final = 120
"""Characters of a name or title that people read on one line."""

MAX_TEXT_CHARACTERS: Final = 4_000
"""Characters of a text that people read in one sitting (purpose, tuning declaration)."""

MAX_URL_CHARACTERS: Final = 300
"""Characters of an address."""

MAX_RECIPIENTS: Final = 50
"""Recipients of a study's results: each is a promise somebody must check."""
