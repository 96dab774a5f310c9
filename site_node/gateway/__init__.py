"""What is the one process of a hospital that has a route out?

It connects to its coordinator over TLS 1.3 with a client certificate, forwards the few Fleet
requests that a SuperNode needs, and lets an answer pass only if every object of it is on the
egress manifest.
"""

from __future__ import annotations

from site_node.gateway.app import GatewayClient, Sent, SiteGatewaySettings, serve_gateway

__all__ = ["GatewayClient", "Sent", "SiteGatewaySettings", "serve_gateway"]
