"""Does a site enrol once, with its own keys, and does an access token open only what it should?"""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.enrolment import Enrolment
from schemas.canonical import parse
from schemas.errors import CohortiumError, ConfigError, ErrorCode, PolicyDenied, TrustError
from schemas.identity import Invite, fingerprint, open_card
from schemas.signing import SignedDocument
from tests.support.desk import Desk, make_request, named_card
from tests.support.factories import SiteKeys, make_keys


@pytest.fixture
def empty(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def _accept(desk: Desk, raw: bytes, node: int = 7) -> None:
    desk.enrolment.accept(raw, desk.authority, issue=desk.issue, register=lambda _key, _site: node)


def _code_of(caught: pytest.ExceptionInfo[CohortiumError]) -> ErrorCode:
    return caught.value.code


def _invite(desk: Desk, site_id: str = "site-1") -> Invite:
    return desk.enrolment.invite(site_id, desk.authority, valid_hours=1)


def test_a_site_enrols_with_its_invite(empty: Desk) -> None:
    keys = empty.enrol("site-1")
    [site] = empty.enrolment.sites()
    assert site.site_id == "site-1"
    assert site.fingerprint == fingerprint(named_card("site-1", keys))
    assert site.node_id == 2**63 + 1  # the transport's numbers have 64 bits, unsigned
    assert empty.enrolment.pinned_certificates() == {site.certificate_sha256: "site-1"}
    assert open_card(site.card).node_key == site.node_key
    assert [event.event for event in empty.database.events()] == ["site.invited", "site.enrolled"]


def test_answer_carries_a_certificate_for_this_site(empty: Desk) -> None:
    invite = _invite(empty)
    answer = empty.enrolment.accept(
        make_request(invite.code, "site-1", make_keys()),
        empty.authority,
        issue=empty.issue,
        register=lambda _key, _site: 7,
    )
    assert answer.site_id == "site-1"
    assert answer.ca_pem == invite.ca_pem
    assert answer.coordinator_name == "Test consortium"


def test_a_code_works_once(empty: Desk) -> None:
    invite = _invite(empty)
    keys = make_keys()
    _accept(empty, make_request(invite.code, "site-1", keys))
    with pytest.raises(TrustError) as caught:
        _accept(empty, make_request(invite.code, "site-1", keys))
    assert _code_of(caught) is ErrorCode.INVITE_USED


def test_an_expired_code_is_refused(empty: Desk) -> None:
    invite = _invite(empty)
    empty.clock.forward(hours=1)
    with pytest.raises(TrustError) as caught:
        _accept(empty, make_request(invite.code, "site-1", make_keys()))
    assert _code_of(caught) is ErrorCode.INVITE_EXPIRED


def test_an_unknown_code_is_refused(empty: Desk) -> None:
    with pytest.raises(TrustError) as caught:
        _accept(empty, make_request("23456-789AB-CDEFG-HJKMN", "site-1", make_keys()))
    assert _code_of(caught) is ErrorCode.INVITE_UNKNOWN


def test_a_code_is_for_one_site(empty: Desk) -> None:
    invite = _invite(empty, "site-1")
    with pytest.raises(TrustError) as caught:
        _accept(empty, make_request(invite.code, "site-2", make_keys()))
    assert _code_of(caught) is ErrorCode.INVITE_OTHER_SITE
    assert empty.enrolment.sites() == []


def test_only_the_hash_of_a_code_is_kept(empty: Desk) -> None:
    invite = _invite(empty)
    raw = empty.database.path.read_bytes() + Path(f"{empty.database.path}-wal").read_bytes()
    assert invite.code.encode() not in raw
    assert invite.code.replace("-", "").encode() not in raw


def test_codes_may_be_typed_in_small_letters_without_hyphens(empty: Desk) -> None:
    code = _invite(empty).code.replace("-", "").lower()
    _accept(empty, make_request(code, "site-1", make_keys()))
    assert len(empty.enrolment.sites()) == 1


def test_a_request_signed_by_another_key_is_refused(empty: Desk) -> None:
    invite = _invite(empty)
    with pytest.raises(TrustError) as caught:
        _accept(empty, make_request(invite.code, "site-1", make_keys(), signer=make_keys()))
    assert _code_of(caught) is ErrorCode.ENROLMENT_INVALID
    _accept(empty, make_request(invite.code, "site-1", make_keys()))  # the code is not used up


def test_an_altered_request_is_refused(empty: Desk) -> None:
    invite = _invite(empty)
    signed = parse(
        SignedDocument, make_request(invite.code, "site-1", make_keys()), max_bytes=10**6
    )
    flipped = "0" if signed.signature[0] != "0" else "1"
    forged = signed.model_copy(update={"signature": flipped + signed.signature[1:]})
    with pytest.raises(TrustError) as caught:
        _accept(empty, forged.canonical())
    assert _code_of(caught) is ErrorCode.SIGNATURE_INVALID


def test_oversized_and_malformed_requests_are_refused(empty: Desk) -> None:
    for raw in (b"{}", b"x" * 10**6, b"\xff\xfe"):
        with pytest.raises(CohortiumError):
            _accept(empty, raw)
    assert empty.enrolment.sites() == []


def test_another_identity_cannot_take_an_enrolled_site(empty: Desk) -> None:
    empty.enrol("site-1")
    invite = _invite(empty, "site-1")
    with pytest.raises(TrustError) as caught:
        _accept(empty, make_request(invite.code, "site-1", make_keys()))
    assert _code_of(caught) is ErrorCode.ENROLMENT_KEY_SUBSTITUTED


def test_the_same_identity_may_enrol_again(empty: Desk) -> None:
    keys = empty.enrol("site-1")
    before = empty.enrolment.sites()[0].certificate_sha256
    empty.enrol("site-1", keys)
    [site] = empty.enrolment.sites()
    assert site.certificate_sha256 != before


@pytest.mark.parametrize("shared", ["identity", "node"])
def test_two_sites_may_not_share_a_key(empty: Desk, shared: str) -> None:
    first = empty.enrol("site-1")
    fresh = make_keys()
    second = SiteKeys(
        identity=first.identity if shared == "identity" else fresh.identity,
        approval=fresh.approval,
        study=fresh.study,
        node=first.node if shared == "node" else fresh.node,
    )
    invite = _invite(empty, "site-2")
    with pytest.raises(TrustError) as caught:
        _accept(empty, make_request(invite.code, "site-2", second), node=8)
    assert _code_of(caught) is ErrorCode.ENROLMENT_KEY_TAKEN


@pytest.mark.parametrize("name", ["", "Site-1", "a b", "x" * 41, "site_1", "-a", "../x"])
def test_odd_site_names_are_refused(empty: Desk, name: str) -> None:
    with pytest.raises(ConfigError):
        _invite(empty, name)


def test_codes_use_every_letter_alike(empty: Desk) -> None:
    # A byte of 240 and above would favour the first letters; it is drawn again.
    drawn = iter([255, 240, *range(20)])
    enrolment = Enrolment(empty.database, entropy=lambda n: bytes([next(drawn)] * n))
    invite = enrolment.invite("site-1", empty.authority, valid_hours=1)
    assert invite.code == "23456-789AB-CDEFG-HJKMN"


def test_a_vendor_may_write_and_a_researcher_only_read(empty: Desk) -> None:
    vendor = empty.enrolment.grant("acme", "vendor")
    researcher = empty.enrolment.grant("kim", "researcher")
    empty.enrolment.check_may_write(vendor)
    assert empty.enrolment.role_of(researcher) == "researcher"
    with pytest.raises(PolicyDenied) as caught:
        empty.enrolment.check_may_write(researcher)
    assert _code_of(caught) is ErrorCode.TOKEN_ROLE


@pytest.mark.parametrize("token", ["", "coh_", "coh_" + "0" * 64, "Bearer"])
def test_a_wrong_token_opens_nothing(empty: Desk, token: str) -> None:
    empty.enrolment.grant("acme", "vendor")
    with pytest.raises(TrustError) as caught:
        empty.enrolment.role_of(token)
    assert _code_of(caught) is ErrorCode.TOKEN_INVALID


def test_every_stored_token_is_compared_in_constant_time(
    empty: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hmac

    import coordinator.enrolment as module

    tokens = [empty.enrolment.grant(f"v{index}", "vendor") for index in range(3)]
    compared: list[tuple[str, str]] = []
    real = hmac.compare_digest

    def watched(left: str, right: str) -> bool:
        compared.append((left, right))
        return real(left, right)

    monkeypatch.setattr(module.hmac, "compare_digest", watched)
    assert empty.enrolment.role_of(tokens[0]) == "vendor"
    assert len(compared) == 3
