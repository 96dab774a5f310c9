"""What does a hospital read when it asks whether a model betrays its patients?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.privacy.statement import privacy_statement
from site_node.cli import run
from site_node.context import open_site
from site_node.membership import CAVEATS
from tests.support.consortium import MemoryConsortium, memory_consortium


@pytest.fixture
def trained(tmp_path: Path) -> MemoryConsortium:
    consortium = memory_consortium(tmp_path)
    consortium.study_run().run()
    return consortium


def shown(consortium: MemoryConsortium, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    home = consortium.sites["site-1"].home
    assert run(["membership", "heart", "--home", str(home), *more]) == 0
    return capsys.readouterr().out


def test_the_report_says_what_was_found_what_is_allowed_and_what_it_is_not(
    trained: MemoryConsortium, capsys: pytest.CaptureFixture[str]
) -> None:
    """PRIVACY-18: each number beside the plan's bound, the whole promise, every caveat."""
    text = " ".join(shown(trained, capsys).split())
    for part in ("Attacks on the final model", "loss", "calibrated", "AUROC", "allowed",
                 "found at 1 % false alarms", "found at 5 % false alarms", "nothing was sent",
                 "Nothing here exceeds what the plan allows", "membership.reported"):  # fmt: skip
        assert part in text
    assert privacy_statement(trained.plan).sentence() in text
    for caveat in CAVEATS:
        assert caveat in text


def test_the_report_is_kept_and_nothing_waits_to_leave(
    trained: MemoryConsortium, capsys: pytest.CaptureFixture[str]
) -> None:
    """PRIVACY-18: a file of this user alone in reports/, an audit event, no message."""
    site = trained.sites["site-1"]
    waiting = len(site.inbox.waiting())
    sent = site.db.row("SELECT count(*) AS n FROM manifest")["n"]  # type: ignore[index]
    values: dict[str, Any] = json.loads(shown(trained, capsys, "--json"))
    path = Path(values["path"])
    assert path == site.folders.reports / "heart.membership.json"
    kept = json.loads(path.read_text("utf-8"))
    assert kept["attacks"] == values["attacks"] and kept["is_within"] is values["is_within"]
    assert path.stat().st_mode & 0o077 == 0
    again = open_site(site.home, trained.calendar)
    assert len(again.inbox.waiting()) == waiting
    assert again.db.row("SELECT count(*) AS n FROM manifest")["n"] == sent  # type: ignore[index]
    event = again.audit.rows(last=1)[0].event
    assert event.event == "membership.reported"
    assert set(event.attributes) == {"steps", "members", "others"}
    assert again.audit.verify().is_intact


def test_before_training_there_is_nothing_to_attack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    consortium = memory_consortium(tmp_path)
    home = consortium.sites["site-1"].home
    assert run(["membership", "heart", "--home", str(home)]) == 2
    assert "model.untrained" in capsys.readouterr().err
    assert not (consortium.sites["site-1"].folders.reports / "heart.membership.json").exists()
