"""How does anything leave this hospital? Through one gate, written down first."""

from __future__ import annotations

from site_node.egress.gate import Gate, Manifest
from site_node.egress.released import Released

__all__ = ["Gate", "Manifest", "Released"]
