"""Does the coordinator's gateway know a site's own node, and who is listening?"""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.gateway import rules
from site_node.gateway.fleet import FLEET_PATHS


def keys() -> tuple[bytes, str]:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = public.public_bytes(serialization.Encoding.PEM, form)
    return base64.b64encode(pem), public.public_bytes(serialization.Encoding.DER, form).hex()


def test_the_enrolled_node_key_is_accepted() -> None:
    header, der = keys()
    assert rules.is_own_node(rules.SitePin("site-1", der), [(b"flwr-public-key", header)])


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"flwr-public-key", keys()[0])],
        [(b"flwr-public-key", b"!!!")],
        [(b"flwr-public-key", base64.b64encode(b"not a key"))],
        [(b"flwr-public-key", b"A" * 5000)],
    ],
    ids=["none", "another key", "not base64", "no key", "too long"],
)
def test_anything_else_is_not(headers: list[tuple[bytes, bytes]]) -> None:
    assert not rules.is_own_node(rules.SitePin("site-1", keys()[1]), headers)


def test_two_keys_in_one_request_are_refused() -> None:
    header, der = keys()
    both = [(b"flwr-public-key", header), (b"flwr-public-key", header)]
    assert not rules.is_own_node(rules.SitePin("site-1", der), both)


def test_the_open_paths_are_the_sites_ten_and_two_for_documents() -> None:
    documents = {"/v1/documents/pull", "/v1/documents/push"}
    assert set(rules.MAX_BODY_BYTES) == set(FLEET_PATHS) | documents
