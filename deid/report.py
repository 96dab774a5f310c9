"""How much was removed or replaced, by kind? Counts only; a report never quotes a value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class DeidReport:
    """Count what de-identification did.

    Attributes:
        records: records (images or rows) that came out clean.
        actions: attributes or cells, by action ("keep", "remove", "patient", …).
        refused: records refused, by reason code.
    """

    records: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def as_mapping(self) -> Mapping[str, object]:
        """Give plain JSON-ready counts, sorted."""
        return {
            "records": self.records,
            "actions": dict(sorted(self.actions.items())),
            "refused": dict(sorted(self.refused.items())),
        }
