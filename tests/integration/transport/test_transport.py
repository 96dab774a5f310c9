"""Does a body reach each site and come back, and is everything else refused?"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import ssl
import statistics
import time
import zipfile
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from coordinator import pki
from coordinator.flower import pieces, superlink
from coordinator.flower.bundle import build_bundle
from coordinator.flower.fleet import Failure, Fleet, Reply
from schemas.errors import ErrorCode, TransportError
from schemas.limits import MAX_OBJECT_BYTES, PIECE_BYTES
from schemas.pieces import Announcement, piece_count
from site_node.flower import launch
from tests.integration.transport.deployment import Deployment, Site, wait_for

CANARY = b"PATIENT-CANARY-8812"
pytestmark = pytest.mark.timeout(240)


def ask(fleet: Fleet, sites: list[Site], body: bytes, timeout: float = 30.0):
    outcomes = fleet.exchange({site.node_id: body for site in sites}, timeout_seconds=timeout)
    return [outcomes[site.node_id] for site in sites]


# --- the happy path ---------------------------------------------------------------------------


def test_every_site_gets_its_own_request_and_answers_it(
    deployment: Deployment, fleet: Fleet
) -> None:
    requests = {site.node_id: f"echo|{site.name}".encode() for site in deployment.sites}
    assert fleet.exchange(requests, timeout_seconds=30) == {
        node: Reply(b"echo:" + body) for node, body in requests.items()
    }


def test_exchanges_follow_each_other_without_polling_pauses(
    deployment: Deployment, fleet: Fleet
) -> None:
    seconds = []
    for number in range(6):
        begun = time.perf_counter()
        answers = ask(fleet, deployment.sites, b"echo|%d" % number)
        seconds.append(time.perf_counter() - begun)
        assert answers == [Reply(b"echo:echo|%d" % number)] * 2
    print("median exchange", round(statistics.median(seconds), 3))
    assert statistics.median(seconds) < 3.0  # Flower's own polling alone takes more


def test_only_the_named_site_is_disturbed(deployment: Deployment, fleet: Fleet) -> None:
    first, second = deployment.sites
    before = len([each for each in second.sent() if each["path"].endswith("push-object")])
    assert ask(fleet, [first], b"echo|one") == [Reply(b"echo:echo|one")]
    after = len([each for each in second.sent() if each["path"].endswith("push-object")])
    assert before == after


def test_a_large_answer_arrives_whole(deployment: Deployment, fleet: Fleet) -> None:
    for answer in ask(fleet, deployment.sites, b"big|"):
        assert isinstance(answer, Reply)
        assert len(answer.body) == 300_000


def test_a_long_body_travels_in_pieces_both_ways(deployment: Deployment, fleet: Fleet) -> None:
    site = deployment.sites[0]
    body = b"echo|" + os.urandom(24_000_000)  # not zeros: equal pieces would travel once
    n_before = len(site.sent())
    (answer,) = ask(fleet, [site], body)
    assert answer == Reply(b"echo:" + body)
    sent = [each for each in site.sent()[n_before:] if each["path"] == "/v1/fleet/push-object"]
    assert len(sent) == piece_count(len(body) + 5) + 3  # and head, list, message
    assert max(each["n"] for each in sent) <= MAX_OBJECT_BYTES
    assert sum(each["n"] for each in sent) < len(body) + 200_000


def test_every_piece_is_listed_before_any_leaves(deployment: Deployment, fleet: Fleet) -> None:
    site = deployment.sites[0]
    tap = site.home / "tap.bin"
    n_before = tap.stat().st_size
    secret = b"unlisted-piece|" + os.urandom(3 * PIECE_BYTES)
    assert ask(fleet, [site], secret) == [Failure(ErrorCode.EGRESS_NOT_LISTED)]
    assert tap.stat().st_size - n_before < 20_000  # not even the listed ones left


def test_pieces_that_are_not_the_announced_body_are_refused_by_the_site(
    deployment: Deployment, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "announce", lambda each: Announcement(len(each), "0" * 64))
    body = b"echo|" + os.urandom(PIECE_BYTES)
    refusal = Reply(b"refusal:message.pieces_changed")
    assert ask(fleet, deployment.sites[:1], body) == [refusal]


def test_no_request_is_an_empty_exchange(fleet: Fleet) -> None:
    assert fleet.exchange({}, timeout_seconds=1) == {}


def test_an_unknown_node_fails_at_once(deployment: Deployment, fleet: Fleet) -> None:
    known = deployment.sites[0].node_id
    outcomes = fleet.exchange({known: b"echo|x", 4242: b"echo|x"}, timeout_seconds=30)
    assert outcomes[known] == Reply(b"echo:echo|x")
    assert isinstance(outcomes[4242], Failure)


def test_tls_13_is_what_both_ends_negotiated(deployment: Deployment, fleet: Fleet) -> None:
    ask(fleet, deployment.sites, b"echo|tls")
    for site in deployment.sites:
        assert json.loads((site.home / "gateway.json").read_text())["tls"] == "TLSv1.3"
    lines = (deployment.home / "received.jsonl").read_text().splitlines()
    received = [json.loads(line) for line in lines]
    assert {each["tls"] for each in received} == {"TLSv1.3"}
    assert {each["site"] for each in received} == {"site-1", "site-2"}


def test_every_body_that_left_is_recorded_with_its_size(
    deployment: Deployment, fleet: Fleet
) -> None:
    site = deployment.sites[0]
    n_before = len(site.sent())
    ask(fleet, [site], b"echo|" + b"x" * 5000)
    new = site.sent()[n_before:]
    answers = [each for each in new if each["path"] == "/v1/fleet/push-object"]
    assert len(answers) == 3  # message, record, body
    assert all(isinstance(each["id"], str) for each in answers)
    assert max(each["n"] for each in answers) > 5000
    wait_for(
        lambda: sum(each["n"] for each in site.sent()) <= received_bytes(deployment, site),
        10,
        "the coordinator's own count",
    )


def received_bytes(deployment: Deployment, site: Site) -> int:
    lines = (deployment.home / "received.jsonl").read_text().splitlines()
    return sum(each["n"] for each in map(json.loads, lines) if each["site"] == site.name)


def test_run_time_of_a_site_never_crosses(deployment: Deployment, fleet: Fleet) -> None:
    from flwr.proto.fleet_pb2 import PushMessagesRequest

    ask(fleet, [deployment.sites[0]], b"echo|time")
    pushes = [
        line
        for line in (deployment.sites[0].home / "tap.bin").read_bytes().split(b"/v1/")
        if line.startswith(b"fleet/push-messages\n")
    ]
    body = pushes[-1].split(b"\n", 1)[1][:-1]
    assert list(PushMessagesRequest.FromString(body).clientapp_runtime_list) == [0.0]


def test_documents_share_the_gateway(deployment: Deployment) -> None:
    for site in deployment.sites:
        answer = json.loads((site.home / "courier.json").read_text())
        assert answer == {"site": site.name, "call": "pull", "n": 11}


# --- what goes wrong inside a site --------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "code"),
    [
        (b"raise", ErrorCode.INTERNAL_UNEXPECTED),
        (b"explode", ErrorCode.INTERNAL_UNEXPECTED),
        (b"deny", ErrorCode.PLAN_STOPPED),
    ],
)
def test_an_exception_crosses_as_a_code_only(
    deployment: Deployment, fleet: Fleet, word: bytes, code: ErrorCode
) -> None:
    answers = ask(fleet, deployment.sites, word + b"|")
    assert answers == [Reply(b"refusal:" + code.value.encode())] * 2
    assert CANARY not in deployment.tapped()
    for log in deployment.root.rglob("*.log"):
        assert CANARY not in log.read_bytes()


def test_an_object_that_is_not_listed_is_held_back(deployment: Deployment, fleet: Fleet) -> None:
    site = deployment.sites[0]
    secret = b"unlisted|" + os.urandom(8).hex().encode()
    assert ask(fleet, [site], secret) == [Failure(ErrorCode.EGRESS_NOT_LISTED)]
    assert b"echo:" + secret not in (site.home / "tap.bin").read_bytes()
    assert ask(fleet, [site], b"echo|next") == [Reply(b"echo:echo|next")]


def test_an_answer_that_cannot_be_registered_does_not_leave(
    deployment: Deployment, fleet: Fleet
) -> None:
    site = deployment.sites[0]
    secret = b"unwritable|" + os.urandom(8).hex().encode()
    assert ask(fleet, [site], secret) == [Failure(ErrorCode.EGRESS_NOT_LISTED)]
    assert b"echo:" + secret not in (site.home / "tap.bin").read_bytes()


def test_nothing_leaves_while_the_record_cannot_be_written(
    deployment: Deployment, fleet: Fleet
) -> None:
    site = deployment.sites[0]
    broken = site.home / "audit-broken"
    n_before = len(site.sent())
    broken.touch()
    try:
        assert ask(fleet, [site], b"echo|silent", 1.5) == [Failure(ErrorCode.TRANSPORT_TIMEOUT)]
        assert len(site.sent()) == n_before
    finally:
        broken.unlink()
    assert ask(fleet, [site], b"echo|again") == [Reply(b"echo:echo|again")]


def test_a_late_answer_is_not_taken_for_the_next(deployment: Deployment, fleet: Fleet) -> None:
    slow, quick = deployment.sites
    outcomes = fleet.exchange(
        {slow.node_id: b"slow|2.5", quick.node_id: b"echo|quick"}, timeout_seconds=1.0
    )
    assert outcomes[slow.node_id] == Failure(ErrorCode.TRANSPORT_TIMEOUT)
    assert outcomes[quick.node_id] == Reply(b"echo:echo|quick")
    assert ask(fleet, [slow], b"echo|after") == [Reply(b"echo:echo|after")]


def test_a_caller_can_end_the_wait(deployment: Deployment, fleet: Fleet) -> None:
    site = deployment.sites[0]
    begun = time.monotonic()
    outcomes = fleet.exchange(
        {site.node_id: b"slow|2"}, timeout_seconds=60, stop=lambda: time.monotonic() > begun + 0.3
    )
    assert outcomes == {site.node_id: Failure(ErrorCode.ATTEMPT_VOID)}
    assert time.monotonic() - begun < 2.0
    assert ask(fleet, [site], b"echo|after") == [Reply(b"echo:echo|after")]


def test_a_foreign_bundle_is_refused_and_never_imported(
    deployment: Deployment, fleet: Fleet, tmp_path: Path
) -> None:
    marker = tmp_path / "imported"
    fleet.finish(ok=True)
    fleet.acquire(deployment.start_run(_bundle_with_code(marker)), timeout_seconds=30)
    try:
        answers = ask(fleet, deployment.sites, b"echo|code")
    finally:
        fleet.finish(ok=False)
    assert answers == [Reply(b"refusal:bundle.unknown")] * 2
    assert not marker.exists()


def _bundle_with_code(marker: Path) -> bytes:
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\napp = None\n".encode()
    files: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(build_bundle())) as shipped:
        for name in ("pyproject.toml", "LICENSE"):
            files[name] = shipped.read(name)
    files |= {"cohortium/__init__.py": b"", "cohortium/none.py": code}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name, content in files.items():
            made.writestr(name, content)
        lines = [f"{n},{hashlib.sha256(c).hexdigest()},{8 * len(c)}" for n, c in files.items()]
        made.writestr(".info/CONTENT", "\n".join(lines))
    return out.getvalue()


def test_the_next_study_runs_in_the_same_processes(deployment: Deployment, fleet: Fleet) -> None:
    fleet.finish(ok=True)
    assert not fleet.is_active
    fleet.acquire(deployment.start_run(), timeout_seconds=30)
    assert ask(fleet, deployment.sites, b"echo|2") == [Reply(b"echo:echo|2")] * 2


def test_a_run_left_by_a_dead_runner_is_closed(deployment: Deployment, fleet: Fleet) -> None:
    fleet.finish(ok=True)
    deployment.start_run()  # nobody ever takes it
    wanted = deployment.start_run()
    fleet.acquire(wanted, timeout_seconds=30)
    assert ask(fleet, deployment.sites, b"echo|3") == [Reply(b"echo:echo|3")] * 2


# --- who may connect ----------------------------------------------------------------------------


def _context(
    deployment: Deployment, site: Site | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(deployment.authority.ca_path))
    context.minimum_version = context.maximum_version = version
    if site is not None:
        context.load_cert_chain(site.home / "site.crt", site.home / "site.key")
    return context


def _call(
    deployment: Deployment, context: ssl.SSLContext, path: str, **more: object
) -> httpx.Response:
    url = f"https://127.0.0.1:{deployment.gateway_port}{path}"
    with httpx.Client(verify=context, trust_env=False) as client:
        return client.request(str(more.pop("method", "POST")), url, **more)  # type: ignore[arg-type]


def test_tls_12_is_refused(deployment: Deployment) -> None:
    context = _context(deployment, deployment.sites[0], ssl.TLSVersion.TLSv1_2)
    with pytest.raises(httpx.ConnectError):
        _call(deployment, context, "/v1/documents/pull", content=b"{}")
    control = _context(deployment, deployment.sites[0])
    answer = _call(deployment, control, "/v1/documents/pull", content=b"{}")
    assert answer.status_code == 200  # the version is all that differs


def test_tls_12_is_refused_on_the_hospitals_loopback_too(deployment: Deployment) -> None:
    site = deployment.sites[0]
    context = ssl.create_default_context(cafile=str(site.home / "local-ca.crt"))
    url = f"https://127.0.0.1:{site.gateway_port}/v1/fleet/none"
    with httpx.Client(verify=context, trust_env=False) as control:
        assert control.post(url).status_code == 403  # the version is all that differs
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        httpx.Client(verify=context, trust_env=False) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.post(url)


def test_a_caller_without_a_certificate_is_refused(deployment: Deployment) -> None:
    with pytest.raises(httpx.TransportError):
        _call(deployment, _context(deployment, None), "/v1/documents/pull", content=b"{}")


def test_a_certificate_of_another_authority_is_refused(
    deployment: Deployment, tmp_path: Path
) -> None:
    other = pki.make_authority(tmp_path / "other", name="other", now=deployment.now)
    context = _context(deployment, None)
    _load_certificate(context, other, tmp_path, deployment)
    with pytest.raises(httpx.TransportError):
        _call(deployment, context, "/v1/documents/pull", content=b"{}")


def _load_certificate(
    context: ssl.SSLContext, authority: pki.Authority, folder: Path, deployment: Deployment
) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site-1")]))
        .sign(key, hashes.SHA256())
    )
    pem = request.public_bytes(serialization.Encoding.PEM).decode()
    certificate = pki.issue_site(authority, pem, "site-1", now=deployment.now)
    (folder / "c.crt").write_text(certificate)
    pki.write_private_key(folder / "c.key", key)
    context.load_cert_chain(folder / "c.crt", folder / "c.key")
    return certificate


def test_an_unpinned_certificate_is_refused_until_it_is_enrolled(
    deployment: Deployment, tmp_path: Path
) -> None:
    context = _context(deployment, None)
    certificate = _load_certificate(context, deployment.authority, tmp_path, deployment)
    refused = _call(deployment, context, "/v1/documents/pull", content=b"{}")
    assert (refused.status_code, refused.content) == (403, b"")
    node_key = deployment.sites[0].node_key_hex
    pins = {
        **deployment.pins,
        pki.certificate_fingerprint(certificate): ("site-9", node_key),
    }
    (deployment.home / "pins.json").write_text(json.dumps(pins))
    try:
        accepted = _call(deployment, context, "/v1/documents/pull", content=b"{}")
    finally:
        (deployment.home / "pins.json").write_text(json.dumps(deployment.pins))
    assert accepted.json()["site"] == "site-9"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/list-nodes"),
        ("POST", "/v1/runtime/acquire-task"),
        ("POST", "/v1/fleet/register-node"),
        ("POST", "/v1/fleet/unregister-node"),
        ("POST", "/v1/fleet/pull-messages/../../control/list-nodes"),
        ("POST", "/v1/fleet//pull-messages"),
        ("GET", "/v1/fleet/pull-messages"),
        ("POST", "/v1/documents/pull?x=1"),
        ("POST", "/"),
    ],
)
def test_any_other_path_is_refused_by_both_gateways(
    deployment: Deployment, method: str, path: str
) -> None:
    site = deployment.sites[0]
    context = _context(deployment, site)
    assert _call(deployment, context, path, method=method).status_code == 403
    local = ssl.create_default_context(cafile=str(site.home / "local-ca.crt"))
    with httpx.Client(verify=local, trust_env=False) as client:
        url = f"https://127.0.0.1:{site.gateway_port}{path}"
        assert client.request(method, url).status_code == 403


def test_a_body_above_its_paths_limit_is_refused(deployment: Deployment) -> None:
    context = _context(deployment, deployment.sites[0])
    path = "/v1/fleet/pull-messages"
    assert _call(deployment, context, path, content=b"x" * 5000).status_code == 413


def test_a_site_cannot_speak_with_another_sites_node_key(deployment: Deployment) -> None:
    import base64

    first, second = deployment.sites
    headers = {"flwr-public-key": base64.b64encode((second.home / "node.pub.pem").read_bytes())}
    context = _context(deployment, first)
    path = "/v1/fleet/get-run"
    assert _call(deployment, context, path, content=b"", headers=headers).status_code == 403
    assert _call(deployment, context, path, content=b"").status_code == 403


# --- what is running ----------------------------------------------------------------------------


def test_flowers_calls_home_are_off_in_every_child(deployment: Deployment) -> None:
    children = [*deployment.children.items()]
    for site in deployment.sites:
        children += site.children.items()
    for name, child in children:
        raw = Path(f"/proc/{child.pid}/environ").read_bytes().split(b"\0")
        environment = dict(line.decode().split("=", 1) for line in raw if b"=" in line)
        launch.check_environment(environment)
        superlink.check_environment(environment)
        command = Path(f"/proc/{child.pid}/cmdline").read_bytes().split(b"\0")
        assert b"--allow-runtime-dependency-installation" not in command, name
        if name == "superlink":
            assert b"--disable-runtime-dependency-installation" in command


def test_the_gateways_hold_no_torch(deployment: Deployment) -> None:
    gateways = [deployment.children["gateway"], *(s.children["gateway"] for s in deployment.sites)]
    for child in gateways:
        assert "torch" not in Path(f"/proc/{child.pid}/maps").read_text()


def test_registering_a_node_again_gives_the_same_node(deployment: Deployment) -> None:
    site = deployment.sites[0]
    again = deployment.control.register_node(site.node_key_hex, name=site.name)
    assert again == site.node_id


# --- kill and restart, last: each of these leaves the deployment working ------------------------


def kill(site: Site, name: str) -> None:
    site.children[name].kill()
    site.children[name].wait()


def test_a_restarted_executor_refuses_what_its_predecessor_held(
    deployment: Deployment, fleet: Fleet
) -> None:
    site = deployment.sites[0]

    def restart_when_dead() -> bool:
        if site.children["executor"].poll() is not None:
            deployment.start_executor(site)
        return False

    begun = time.monotonic()
    outcomes = fleet.exchange({site.node_id: b"die|"}, timeout_seconds=50, stop=restart_when_dead)
    assert outcomes[site.node_id] == Reply(b"refusal:internal.process_ended")
    assert time.monotonic() - begun < 30
    assert ask(fleet, [site], b"echo|alive") == [Reply(b"echo:echo|alive")]


def test_an_answer_broken_off_does_not_block_the_hospital(
    deployment: Deployment, fleet: Fleet
) -> None:
    site = deployment.sites[0]
    restarted: list[float] = []

    def restart_when_dead() -> bool:
        if not restarted and site.children["executor"].poll() is not None:
            deployment.start_executor(site)
            restarted.append(time.monotonic())
        return bool(restarted) and time.monotonic() > restarted[0] + 3

    outcomes = fleet.exchange(
        {site.node_id: b"die-sending|"}, timeout_seconds=40, stop=restart_when_dead
    )
    assert outcomes[site.node_id] == Failure(ErrorCode.ATTEMPT_VOID)
    assert ask(fleet, [site], b"echo|alive") == [Reply(b"echo:echo|alive")]


def test_a_handler_past_its_deadline_ends_its_process(deployment: Deployment, fleet: Fleet) -> None:
    site = deployment.sites[0]
    kill(site, "executor")
    deployment.start_executor(site, deadline_seconds=1.0)
    ended: list[int] = []

    def restart_when_dead() -> bool:
        code = site.children["executor"].poll()
        if code is not None:
            ended.append(code)
            deployment.start_executor(site)
        return False

    outcomes = fleet.exchange(
        {site.node_id: b"slow|30"}, timeout_seconds=50, stop=restart_when_dead
    )
    assert outcomes[site.node_id] == Reply(b"refusal:internal.process_ended")
    assert ended == [75]


def test_a_supernode_killed_in_mid_round_is_back_within_the_minute(
    deployment: Deployment, fleet: Fleet
) -> None:
    hit, other = deployment.sites
    done: list[bool] = []

    def kill_once() -> bool:
        if not done:
            done.append(True)
            kill(hit, "supernode")
            deployment.start_supernode(hit)
        return False

    begun = time.monotonic()
    outcomes = fleet.exchange(
        {hit.node_id: b"slow|3", other.node_id: b"slow|2"}, timeout_seconds=50, stop=kill_once
    )
    assert outcomes[hit.node_id] == Failure(ErrorCode.ATTEMPT_SITE_LEFT)
    assert outcomes[other.node_id] == Reply(b"echo:slow|2")
    assert time.monotonic() - begun < 40
    assert ask(fleet, deployment.sites, b"echo|both") == [Reply(b"echo:echo|both")] * 2


def test_a_hospital_that_vanishes_is_known_gone_within_seconds(
    deployment: Deployment, fleet: Fleet
) -> None:
    lost, other = deployment.sites
    done: list[bool] = []

    def pull_the_plug() -> bool:
        if not done:
            done.append(True)
            for name in ("executor", "supernode", "gateway"):
                kill(lost, name)
        return False

    begun = time.monotonic()
    outcomes = fleet.exchange(
        {lost.node_id: b"slow|5", other.node_id: b"echo|o"}, timeout_seconds=55, stop=pull_the_plug
    )
    assert outcomes[other.node_id] == Reply(b"echo:echo|o")
    assert isinstance(outcomes[lost.node_id], Failure)
    assert time.monotonic() - begun < 30
    assert fleet.online_nodes() == {other.node_id}
    assert ask(fleet, deployment.sites, b"echo|o")[1] == Reply(b"echo:echo|o")
    deployment.start_site_gateway(lost)
    deployment.start_supernode(lost)
    deployment.start_executor(lost)
    wait_for(lambda: lost.node_id in fleet.online_nodes(), 50, "the hospital's return")
    assert ask(fleet, deployment.sites, b"echo|back") == [Reply(b"echo:echo|back")] * 2


def test_after_a_superlink_restart_the_nodes_are_registered_again(
    deployment: Deployment, fleet: Fleet
) -> None:
    deployment.children["superlink"].send_signal(signal.SIGKILL)
    deployment.children["superlink"].wait()
    with pytest.raises(TransportError):
        ask(fleet, deployment.sites, b"echo|lost")
    deployment.start_superlink()
    wait_for(deployment.control.is_ready, 60, "the SuperLink")
    for site in deployment.sites:
        wait_for(lambda site=site: site.children["supernode"].poll() is not None, 60, "sign-off")
    deployment.register()
    for site in deployment.sites:
        deployment.start_supernode(site)
    fleet.acquire(deployment.start_run(), timeout_seconds=30)
    everyone = {site.node_id for site in deployment.sites}
    wait_for(lambda: fleet.online_nodes() >= everyone, 60, "the sites")
    assert ask(fleet, deployment.sites, b"echo|anew") == [Reply(b"echo:echo|anew")] * 2
