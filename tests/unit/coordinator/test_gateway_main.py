"""Are bodies counted without a write for each, and is none lost at the end?"""

from __future__ import annotations

from tests.support.desk import Desk


def test_counts_are_written_together_and_completely(desk: Desk) -> None:
    from coordinator.gateway import Received
    from coordinator.gateway_main import Counter

    counter = Counter(desk.database, every_seconds=60)
    for size in (10, 20, 30):
        counter.add(Received("site-1", "/v1/fleet/push-object", size, "TLSv1.3"))
    assert desk.database.received() == []
    counter.close()
    [item] = desk.database.received()
    assert (item.n_messages, item.n_bytes, item.study_id) == (3, 60, "")
    [site] = [site for site in desk.enrolment.sites() if site.site_id == "site-1"]
    assert site.last_seen == "2026-11-22T18:00:00Z"
