"""Does the doctor find what is wrong and say how to mend it?"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from coordinator.config import Home, write_initial
from coordinator.db import Database, Event
from coordinator.doctor import examine
from coordinator.pki import make_authority
from tests.support.desk import START


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path)
    write_initial(found, "Test", "127.0.0.1")
    make_authority(found.authority, name="Test", now=START)
    with Database(found.database).write(Event("coordinator.created")):
        pass
    return found


def _colours(home: Home) -> dict[str, str]:
    return {finding.what: finding.colour for finding in examine(home)}


def test_a_fresh_home_has_nothing_red(home: Home) -> None:
    found = examine(home)
    assert "red" not in {finding.colour for finding in found}
    assert [f.fix for f in found if f.colour == "amber"] == ["cohortium-coordinator serve"]


def test_open_keys_are_red_with_the_command_that_mends_them(home: Home) -> None:
    (home.authority / "ca.key").chmod(0o644)
    [bad] = [finding for finding in examine(home) if finding.colour == "red"]
    assert bad.fix == "chmod 600 ca.key"
    assert bad.line().startswith("red ")
    assert bad.as_dict()["colour"] == "red"


def test_a_missing_authority_is_red(home: Home) -> None:
    (home.authority / "ca.key").unlink()
    assert _colours(home)["the authority's key is missing"] == "red"


def test_an_altered_trail_is_red(home: Home) -> None:
    raw = sqlite3.connect(home.database)
    raw.execute("DROP TRIGGER events_are_kept")
    raw.execute("UPDATE events SET event = 'else.thing'")
    raw.commit()
    raw.close()
    assert _colours(home)["the audit trail was altered"] == "red"


def test_a_wrong_setting_is_red_and_the_rest_is_still_looked_at(home: Home) -> None:
    home.config_file.write_text('name = "x"\nwrong = 1\n', encoding="utf-8")
    found = examine(home)
    assert sum(finding.colour == "red" for finding in found) == 1
    assert len(found) == 7
