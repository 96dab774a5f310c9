"""Does the API answer only who may ask, only what it should, and never with an exception's text?"""

from __future__ import annotations

import base64
import json
import socket
import ssl
from typing import Any

import httpx
import pytest
import rfc8785

from coordinator.api.app import MAX_SEALED_ENROLMENT_BYTES
from coordinator.client.http import Client
from schemas.canonical import parse
from schemas.errors import ErrorCode, PolicyDenied, ProtocolError, TransportError, TrustError
from schemas.governance.study import StudyPlan
from schemas.identity import EnrolmentResponse
from tests.api_web.conftest import Served
from tests.support.desk import Desk, make_request
from tests.support.factories import make_keys, seal_plan
from tests.support.starts import sent_weights

READS = ["/v1/info", "/v1/sites", "/v1/studies", "/v1/studies/heart", "/v1/studies/heart/results"]


def _proposal(desk: Desk, plan: StudyPlan) -> bytes:
    weights = base64.b64encode(sent_weights(plan.model)).decode("ascii")
    return rfc8785.dumps({"plan": seal_plan(plan).model_dump(mode="json"), "weights": weights})


def _bare(served: Served, **headers: str) -> httpx.Client:
    context = ssl.create_default_context(cadata=served.desk.authority.ca_pem)
    return httpx.Client(
        base_url=f"https://127.0.0.1:{served.port}", verify=context, headers=headers
    )


def _problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert set(body) == {"type", "title", "status", "code", "hint", "exit_code"}
    assert body["status"] == answer.status_code
    ErrorCode(body["code"])
    return body


def test_tls_below_1_3_is_refused(served: Served) -> None:
    context = ssl.create_default_context(cadata=served.desk.authority.ca_pem)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", served.port)) as raw,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_tls_1_3_is_spoken(served: Served) -> None:
    context = ssl.create_default_context(cadata=served.desk.authority.ca_pem)
    with (
        socket.create_connection(("127.0.0.1", served.port)) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        assert tls.version() == "TLSv1.3"


def test_a_client_with_another_authority_refuses_the_server(served: Served, tmp_path: Any) -> None:
    other = Desk(tmp_path / "other")
    access = served.access()
    from dataclasses import replace

    with (
        Client(replace(access, ca_pem=other.authority.ca_pem)) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.get("/v1/info")
    assert caught.value.code is ErrorCode.TRANSPORT_UNREACHABLE


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("token", [None, "x", "coh_" + "0" * 64])
def test_reading_needs_a_token(served: Served, path: str, token: str | None) -> None:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    with _bare(served, **headers) as client:
        answer = client.get(path)
    assert answer.status_code == 401
    assert _problem(answer)["code"] == "transport.token_invalid"


def test_a_researcher_may_read_but_not_send(served: Served) -> None:
    with Client(served.access("researcher")) as client:
        assert client.get("/v1/studies") == {"studies": []}
        for path in ("/v1/studies", "/v1/studies/heart/start"):
            with pytest.raises(PolicyDenied) as caught:
                client.post(path, b"{}")
            assert caught.value.code is ErrorCode.TOKEN_ROLE


def test_a_vendor_sends_a_plan_and_sees_who_has_not_answered(served: Served) -> None:
    plan = served.desk.plan()
    with Client(served.access()) as client:
        study = client.post("/v1/studies", _proposal(served.desk, plan))
        assert (study["digest"], study["state"]) == (plan.digest(), "proposed")
        assert [site["status"] for site in study["sites"]] == ["awaited"] * 4
        served.desk.approve(plan, "site-1", "site-2", "site-3")
        started = client.post("/v1/studies/heart/start")
        assert started["state"] == "approved"
        served.desk.studies.set_state(plan.digest(), "training")
        with pytest.raises(ProtocolError) as caught:
            client.post("/v1/studies/heart/start")
        assert caught.value.code is ErrorCode.STUDY_STATE


def test_a_tampered_plan_gets_its_code(served: Served) -> None:
    plan = served.desk.plan()
    body = json.loads(_proposal(served.desk, plan))
    body["plan"]["signature"] = "0" * 128
    with Client(served.access()) as client, pytest.raises(TrustError) as caught:
        client.post("/v1/studies", rfc8785.dumps(body))
    assert caught.value.code is ErrorCode.PLAN_TAMPERED
    assert served.desk.studies.all() == []


def test_unknown_fields_and_bad_base64_are_refused(served: Served) -> None:
    good = json.loads(_proposal(served.desk, served.desk.plan()))
    with Client(served.access()) as client:
        for change, code in (
            ({"more": 1}, ErrorCode.FIELD_UNKNOWN),
            ({"weights": "A"}, ErrorCode.MESSAGE_MALFORMED),
        ):
            with pytest.raises(ProtocolError) as caught:
                client.post("/v1/studies", rfc8785.dumps({**good, **change}))
            assert caught.value.code is code


def test_a_site_enrols_over_the_api(served: Served) -> None:
    invite = served.desk.enrolment.invite("site-5", served.desk.authority, valid_hours=1)
    with _bare(served) as client:
        raw = make_request(invite.code, "site-5", make_keys())
        answer = client.post("/v1/enrol", content=raw)
        assert answer.status_code == 200
        response = parse(EnrolmentResponse, answer.content, max_bytes=10**6)
        assert response.site_id == "site-5"
        again = client.post("/v1/enrol", content=raw)
    assert again.status_code == 403
    assert _problem(again)["code"] == "invite.used"


def test_an_oversized_body_is_refused_before_it_is_read(served: Served) -> None:
    with _bare(served) as client:
        answer = client.post("/v1/enrol", content=b"x" * (MAX_SEALED_ENROLMENT_BYTES + 1))
    assert answer.status_code == 413
    assert _problem(answer)["code"] == "transport.too_large"


def test_a_chunked_oversized_body_is_refused_too(served: Served) -> None:
    def endless() -> Any:
        for _ in range(64):
            yield b"x" * 65536

    with _bare(served) as client:
        try:
            answer = client.post("/v1/enrol", content=endless())
        except httpx.TransportError:
            return  # the server closed the connection while we were still sending
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("DELETE", "/v1/studies"),
        ("GET", "/v1/enrol"),
        ("PUT", "/v1/studies/heart/start"),
        ("GET", "/v1/studies/heart/weights"),
    ],
)
def test_other_paths_and_methods_do_not_exist(served: Served, method: str, path: str) -> None:
    with _bare(served, authorization=f"Bearer {served.access().token}") as client:
        answer = client.request(method, path)
    assert answer.status_code == 404
    assert _problem(answer)["code"] == "transport.path_forbidden"


def test_unknown_studies_and_missing_results_have_codes(served: Served) -> None:
    plan = served.desk.plan()
    served.desk.propose(plan)
    with Client(served.access()) as client:
        for path, code in (
            ("/v1/studies/nothing", ErrorCode.STUDY_UNKNOWN),
            ("/v1/studies/heart/results", ErrorCode.STUDY_NO_RESULT),
            ("/v1/studies/heart/model", ErrorCode.STUDY_NO_MODEL),
        ):
            with pytest.raises(ProtocolError) as caught:
                client.get(path)
            assert caught.value.code is code


def test_no_exception_text_leaves_the_api(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    import coordinator.overview as module

    def broken(*_: object) -> object:
        raise RuntimeError("Hong Gildong 630412-1234567")

    access = served.access()
    monkeypatch.setattr(module.Overview, "studies", broken)
    with _bare(served, authorization=f"Bearer {access.token}") as client:
        answer = client.get("/v1/studies")
    assert answer.status_code == 500
    assert _problem(answer)["code"] == "internal.unexpected"
    assert "Hong" not in answer.text and "RuntimeError" not in answer.text


def test_local_detail_of_an_error_stays_local(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    import coordinator.overview as module

    def broken(*_: object) -> object:
        raise ProtocolError(ErrorCode.PLAN_UNKNOWN, "Unknown.", detail="/home/secret/path")

    access = served.access()
    monkeypatch.setattr(module.Overview, "studies", broken)
    with _bare(served, authorization=f"Bearer {access.token}") as client:
        answer = client.get("/v1/studies")
    assert answer.status_code == 404
    assert "secret" not in answer.text


def test_sites_are_shown_with_card_and_fingerprint(served: Served) -> None:
    with Client(served.access()) as client:
        sites = client.get("/v1/sites")["sites"]
    assert [site["site_id"] for site in sites] == ["site-1", "site-2", "site-3", "site-4"]
    assert all(len(site["words"].split("-")) == 6 for site in sites)


def test_info_names_the_bundle(served: Served) -> None:
    with Client(served.access()) as client:
        assert client.get("/v1/info")["app_bundle_sha256"] == "22" * 32


def test_the_model_is_served_with_its_hash(served: Served) -> None:
    desk = served.desk
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan)
    desk.train(plan, plan.training.steps)
    desk.finish(plan)
    with Client(served.access("researcher")) as client:
        raw, stated = client.get_bytes("/v1/studies/heart/model")
    assert (stated, raw) == desk.studies.model(plan.digest())
