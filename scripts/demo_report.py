"""Which figures does a demo run report, and where does each come from?

Results come from the co-signed release, costs from the processes' own CPU clocks and the site
gateways' byte counts, rounds from the hospitals' local logs. Reading logs and rows of several
hospitals in one place, and the baselines, are what only a test bed can do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from scripts import check_versions
from scripts.identifier_search import SearchResult
from scripts.testbed import Testbed

StudyFigures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Costs:
    """What each hospital spent while one study ran."""

    cpu_seconds: Sequence[float]
    bytes_out: Sequence[int]


def study_figures(
    bed: Testbed, study: str, pooled: Mapping[str, float], costs: Costs
) -> StudyFigures:
    """Gather one study's entry of the summary, after it is done."""
    seen = bed.json("cohortium", "vendor", "study", "watch", study)
    release, privacy = seen["result"]["release"], seen["privacy"]
    steps, attempts = seen["steps"], seen["attempts_opened"]
    seconds = round_seconds(bed, seen["digest"])
    prepared = 0 if privacy["preparation_retry_cap"] is None else 1
    assert len(seconds) == steps + prepared, f"{len(seconds)} rounds in the logs, {steps} steps"
    return {
        "sites": release["sites"],
        "steps": steps,
        "attempts": attempts,
        "epsilon": privacy["epsilon"],
        "delta": privacy["delta"],
        "unit": privacy["unit"],
        "adjacency": privacy["adjacency"],
        "t": privacy["collusion_bound"],
        "accountant": privacy["accountant"],
        "hospitals_per_patient": privacy["hospitals_per_patient"],
        "epsilon_two_hospitals": privacy["epsilon_two_hospitals"],
        "privacy": privacy["sentence"],
        "privacy_reading": privacy["reading"],
        "test_auroc": release["auroc"],
        "test_auroc_ci": release["auroc_ci"],
        "test_auroc_bound": release["auroc_bound"],
        "baseline_pooled_no_dp_auroc": pooled["pooled_no_dp"],
        "baseline_central_dp_auroc": pooled["central_dp"],
        "round_seconds_median": round(median(seconds), 3),
        "cpu_seconds_per_site_per_round": round(max(costs.cpu_seconds) / attempts, 3),
        "bytes_out_per_site_per_round": round(max(costs.bytes_out) / attempts),
        "parameters": seen["parameters"],
    }


def round_seconds(bed: Testbed, digest: str) -> list[float]:
    """Time every training round: first READY of any site to the last site's check of its sum."""
    begun: dict[int, float] = {}
    checked: dict[int, float] = {}
    for name in bed.site_names:
        for entry in _log(bed.home(name) / "logs" / "executor.log"):
            if entry.get("plan") != digest or entry.get("kind") != "train":
                continue
            round_, at = int(entry["round"]), float(entry["seconds"])
            if entry["event"] == "ready.issued":
                begun[round_] = min(begun.get(round_, at), at)
            elif entry["event"] == "sum.checked":
                checked[round_] = max(checked.get(round_, at), at)
    return [checked[round_] - begun[round_] for round_ in sorted(checked)]


def _log(path: Path) -> list[dict[str, Any]]:
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if '"seconds"' in line and line.startswith("{"):
            entries.append(json.loads(line))
    return entries


def baselines(bed: Testbed, study: str) -> dict[str, float]:
    """Train on the pooled rows of all hospitals, as nobody outside a test bed may."""
    from scripts.baselines import pooled_baselines
    from site_node.cohort.features import load_features
    from site_node.context import open_site

    features, plan = {}, None
    for name in bed.site_names:
        site = open_site(bed.home(name))
        plan = site.inbox.find(study).plan
        table = site.store.read(study)
        features[name] = (load_features(table, plan, "train"), load_features(table, plan, "test"))
    assert plan is not None
    return pooled_baselines(plan, features)


def write_summary(
    path: Path,
    studies: Mapping[str, StudyFigures],
    *,
    found: SearchResult,
    processes: int,
    peak_rss_mib: float,
    seconds_total: float,
    tls: str,
) -> dict[str, Any]:
    """Write and return the summary."""
    summary = {
        "studies": dict(studies),
        "processes": processes,
        "tls": tls,
        "identifiers_found_outside_raw": len(found.places),
        "identifier_positive_control_found": found.control_found,
        "seconds_total": round(seconds_total, 1),
        "peak_rss_mib": round(peak_rss_mib, 1),
        "versions": check_versions.installed(),
        "notes": {
            "baselines": "computed by the demo on pooled rows; only a test bed can do that",
            "round": "first READY of any site to the last site's check of the sum, all attempts",
            "cpu": "largest site; its three processes and supervisor from approval to result",
            "bytes": "largest site; every HTTP body its gateway sent from approval to result",
            "processes": "most alive at one time, the demo and its passing commands among them",
            "identifier_places": list(found.places),
        },
    }
    path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return summary
