"""How do a hospital's records come in? (public API)"""

from __future__ import annotations

from site_node.ingest.pipeline import ingest, profile_for
from site_node.ingest.report import IngestReport

__all__ = ["IngestReport", "ingest", "profile_for"]
