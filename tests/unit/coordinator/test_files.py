"""Are ports kept over a restart, and are certificates and secrets for their owner only?"""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
from cryptography import x509

from coordinator.config import CoordinatorConfig, Home
from coordinator.files import (
    authority_of,
    choose_ports,
    issue_certificates,
    read_json,
    read_ports,
    write_private,
)
from coordinator.pki import make_authority
from schemas.errors import ConfigError, ErrorCode
from tests.support.desk import START

CONFIG = CoordinatorConfig(name="Test", public_host="coordinator.example")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path)
    make_authority(found.authority, name="Test", now=START)
    return found


def test_ports_are_chosen_once_and_kept(home: Home) -> None:
    first = choose_ports(home, CONFIG)
    assert len(set(first.values())) == 4
    second = choose_ports(home, CONFIG)
    for name in ("api", "gateway", "page"):
        assert first[name] == second[name]
    assert read_ports(home) == second


def test_a_port_taken_meanwhile_is_chosen_anew(home: Home) -> None:
    first = choose_ports(home, CONFIG)
    with socket.socket() as other:
        other.bind(("127.0.0.1", first["api"]))
        other.listen()
        assert choose_ports(home, CONFIG)["api"] != first["api"]


def test_a_configured_port_that_is_taken_is_an_error(home: Home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            choose_ports(home, CONFIG.model_copy(update={"gateway_port": port}))
    assert caught.value.code is ErrorCode.CONFIG_PORT_IN_USE


def test_addresses_exist_only_after_the_first_start(home: Home) -> None:
    with pytest.raises(ConfigError) as caught:
        read_ports(home)
    assert caught.value.code is ErrorCode.CONFIG_NOT_RUNNING
    ports = choose_ports(home, CONFIG)
    authority = authority_of(home, CONFIG)
    assert authority.api_url == f"https://coordinator.example:{ports['api']}"
    assert authority.ca_pem.startswith("-----BEGIN CERTIFICATE-----")


def test_certificates_name_the_public_host_and_keys_are_private(home: Home) -> None:
    files = issue_certificates(home, CONFIG)
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "coordinator.example" in names.get_values_for_type(x509.DNSName)
    for key in (files.key, files.superlink_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_private_files_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_broken_small_file_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert read_json(path) is None
    for text in ("{", "[1]"):
        path.write_text(text, encoding="utf-8")
        assert read_json(path) is None
