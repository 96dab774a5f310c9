"""Key files: one each, readable by one user, never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from cryptography.x509.oid import NameOID

from schemas.errors import ConfigError, ErrorCode, TrustError
from site_node.keys import SECRET_FILES, SiteKeys, create_keys


@pytest.fixture
def keys(tmp_path: Path) -> SiteKeys:
    return create_keys(tmp_path / "keys", "site-1")


def test_every_secret_has_a_private_file(keys: SiteKeys) -> None:
    assert keys.exposed() == ()
    for name in SECRET_FILES:
        assert keys.path(name).stat().st_mode & 0o777 == 0o600
    assert keys.folder.stat().st_mode & 0o777 == 0o700


def test_the_node_key_is_what_flower_loads(keys: SiteKeys) -> None:
    node = load_ssh_private_key(keys.read_secret("node.key"), password=None)
    assert isinstance(node, ec.EllipticCurvePrivateKey)
    assert isinstance(node.curve, ec.SECP384R1)
    assert keys.node_public_der_hex.startswith("3076")


def test_the_certificate_request_names_the_site(keys: SiteKeys) -> None:
    request = x509.load_pem_x509_csr(keys.path("tls.csr").read_bytes())
    assert request.is_signature_valid
    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in names] == ["site-1"]


def test_secrets_are_32_bytes_and_differ(keys: SiteKeys) -> None:
    assert len(keys.store_kek) == len(keys.pseudonym_secret) == 32
    assert keys.store_kek != keys.pseudonym_secret


def test_the_kem_key_is_kept_as_its_seed(keys: SiteKeys) -> None:
    public = keys.kem.public_key().public_bytes_raw()
    again = SiteKeys(keys.folder).kem
    assert (len(again.private_bytes_raw()), len(public)) == (64, 1184)
    assert again.public_key().public_bytes_raw() == public
    assert keys.path("kem.key").read_text("ascii").startswith("-----BEGIN PRIVATE KEY-----")


def test_keys_are_never_overwritten(keys: SiteKeys) -> None:
    with pytest.raises(ConfigError) as caught:
        create_keys(keys.folder, "site-1")
    assert caught.value.code is ErrorCode.CONFIG_HOME_EXISTS


def test_a_key_others_can_read_is_refused(keys: SiteKeys) -> None:
    keys.path("identity.key").chmod(0o644)
    assert keys.exposed() == ("identity.key",)
    with pytest.raises(ConfigError) as caught:
        _ = SiteKeys(keys.folder).identity
    assert caught.value.code is ErrorCode.KEY_PERMISSIONS


def test_a_missing_key_is_named(keys: SiteKeys) -> None:
    keys.path("study.key").unlink()
    assert keys.exposed() == ("study.key",)
    with pytest.raises(ConfigError) as caught:
        _ = keys.study
    assert caught.value.code is ErrorCode.KEY_MISSING


@pytest.mark.parametrize("name", ["identity", "study", "kem", "approval"])
def test_a_file_with_another_kind_of_key_is_refused(keys: SiteKeys, name: str) -> None:
    keys.path(f"{name}.key").write_bytes(keys.path("tls.key").read_bytes())
    with pytest.raises(TrustError) as caught:
        getattr(keys, name)
    assert caught.value.code is ErrorCode.KEY_INVALID


def test_a_file_without_a_key_is_refused(keys: SiteKeys) -> None:
    keys.path("identity.key").write_bytes(b"not a key")
    with pytest.raises(TrustError):
        _ = keys.identity
