"""Where do de-identified rows rest, and who can read them? (public API)"""

from __future__ import annotations

from site_node.store.dataset import Store

__all__ = ["Store"]
