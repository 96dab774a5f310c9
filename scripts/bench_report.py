"""What is said of the measurements: the list's fields, the goals, and the lines on a terminal?"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

from schemas.secagg.streams import has_wide_aes
from scripts.bench_timing import Goal

FIELDS = (
    "d",
    "streams",
    "mask_vs_aes_ctr",
    "mask_vs_flwr",
    "upload_bytes",
    "quantisation_rms",
    "recover_cpu_seconds",
)
"""Of an entry of the list; everything else goes into the details."""

AES_GOAL = 0.6
FLWR_GOAL = 6.0
UPLOAD_ALLOWANCE = 512  # bytes of an upload besides its words


def goals(
    rows: Sequence[dict[str, Any]],
    simulation: dict[str, Any],
    both: Sequence[dict[str, Any]] = (),
) -> list[Goal]:
    """Judge what was measured."""
    found = []
    for row in rows:
        d, streams = row["d"], row["streams"]
        name = f"d = {d:.0e}, {streams} streams: "
        found.append(Goal(name + "masking / AES-256-CTR", row["mask_vs_aes_ctr"], AES_GOAL, True))
        found.append(Goal(name + "flwr's masks / ours", row["mask_vs_flwr"], FLWR_GOAL, True))
        limit = 4 * d + UPLOAD_ALLOWANCE
        found.append(Goal(name + "upload bytes", row["upload_bytes"], limit, False))
        ratio = row["server_sum_vs_numpy_add"]
        found.append(Goal(name + "server sum / NumPy add", ratio, 2, False))
        if streams <= 16:
            error = row["quantisation_rms"]
            found.append(Goal(name + "quantisation rms / clip", error, 2e-9, False))
        if d == 1_000_000:
            seconds = row["recover_cpu_seconds"]
            found.append(Goal(name + "recovery CPU seconds", seconds, 1, False))
        if row["sum_is_exact"] is not None:
            found.append(Goal(name + "sum exact", float(row["sum_is_exact"]), 1, True))
    exact = float(simulation["sum_is_exact"])
    found.append(Goal(f"simulation of {simulation['sites']} sites: sum exact", exact, 1, True))
    for each in both:
        same = float(each["words_are_the_same"])
        found.append(Goal(f"d = {each['d']:.0e}: two processes mask as one", same, 1, True))
    return found


def whole_update(row: dict[str, Any]) -> dict[str, Any]:
    """Compare the whole update with what is asked of its masks alone."""
    return {
        "d": row["d"],
        "streams": row["streams"],
        "vs_aes_ctr": row["update_vs_aes_ctr"],
        "vs_aes_ctr_with_hash": row["hashed_update_vs_aes_ctr"],
        "vs_flwr": row["update_vs_flwr"],
        "as_fast_as_asked_of_masks": {
            "aes_ctr": row["update_vs_aes_ctr"] >= AES_GOAL,
            "aes_ctr_with_hash": row["hashed_update_vs_aes_ctr"] >= AES_GOAL,
            "flwr": row["update_vs_flwr"] >= FLWR_GOAL,
        },
    }


def update_line(row: dict[str, Any]) -> str:
    """Say on a terminal what the masks' goals would make of the whole update."""
    whole = whole_update(row)
    reached = {
        name: "" if is_so else " (below)"
        for name, is_so in whole["as_fast_as_asked_of_masks"].items()
    }
    return (
        f"whole update d = {row['d']:.0e}, {row['streams']} streams, range check and tag included:"
        f" {whole['vs_aes_ctr']:.2f} of AES{reached['aes_ctr']},"
        f" hashed {whole['vs_aes_ctr_with_hash']:.2f}{reached['aes_ctr_with_hash']},"
        f" flwr {whole['vs_flwr']:.1f}x{reached['flwr']}"
    )


def row_line(row: dict[str, Any]) -> str:
    """One entry on a terminal."""
    return (
        "d = {d:>10,}  streams {streams:>3}  masks {mask_vs_aes_ctr:.2f} of AES"
        " (whole update {update_vs_aes_ctr:.2f}, hashed {hashed_update_vs_aes_ctr:.2f};"
        " AES {aes_gigabytes_per_second:.1f} GB/s)"
        "  flwr {mask_vs_flwr:.1f}x (whole update {update_vs_flwr:.1f}x)"
        "  server sum {server_sum_vs_numpy_add:.2f} of NumPy"
        "  recovery {recover_cpu_seconds:.3f} s"
    ).format(**row)


def machine() -> dict[str, Any]:
    """Say on what this was measured."""
    versions = {name: __import__(name).__version__ for name in ("numpy", "cryptography", "flwr")}
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "wide_aes": has_wide_aes(),
        **versions,
    }
