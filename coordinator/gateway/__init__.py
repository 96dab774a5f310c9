"""What of the coordinator can be reached from outside, and by whom?

One listener, TLS 1.3 with pinned client certificates, ten Fleet paths and two document paths.
"""

from __future__ import annotations

from coordinator.gateway.app import CoordinatorGatewaySettings, serve_gateway
from coordinator.gateway.rules import Received, SitePin

__all__ = ["CoordinatorGatewaySettings", "Received", "SitePin", "serve_gateway"]
