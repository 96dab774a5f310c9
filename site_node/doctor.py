"""Is this site fit to run? One line for each check, with what to do about it."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from schemas.errors import CohortiumError, ConfigError, ErrorCode
from schemas.ids import parse_time
from site_node.clock import Clock, utc_now
from site_node.screen import Screen, amount

if TYPE_CHECKING:
    from site_node.context import SiteContext

_LOW_DISK_BYTES: Final = 2 * 2**30  # a study's encrypted rows and a year of log fit in this
_FULL_DISK_BYTES: Final = 100 * 2**20
_RENEW_DAYS: Final = 14
_CONNECT_SECONDS: Final = 5.0


class Colour(StrEnum):
    """How a check ended."""

    GREEN = "green"  # as it must be
    AMBER = "amber"  # works, but look at it
    RED = "red"  # will not work, or is not safe


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    colour: Colour
    check: str
    text: str
    code: str = ""


Check = Callable[["SiteContext"], Finding]


def examine(home: Path, clock: Clock = utc_now) -> tuple[Finding, ...]:
    """Run every check; a check that fails never hides the ones after it."""
    from site_node.context import open_site

    try:
        site = open_site(home, clock)
    except CohortiumError as error:
        return (_red("site", f"{error.sentence} {error.hint}", error.code),)
    findings = []
    for name, check in CHECKS:
        try:
            findings.append(check(site))
        except CohortiumError as error:
            findings.append(_red(name, f"{error.sentence} {error.hint}", error.code))
        except OSError as error:
            findings.append(_red(name, f"the machine refused: {type(error).__name__}"))
    return tuple(findings)


def show_findings(screen: Screen, findings: tuple[Finding, ...]) -> None:
    """Print the examination, worst last word."""
    screen.title("Examination of this site")
    for finding in findings:
        screen.light(finding.colour.value, finding.check, finding.text)
    counts = {colour: sum(f.colour is colour for f in findings) for colour in Colour}
    screen.line()
    screen.line(
        f"{counts[Colour.GREEN]} green, {counts[Colour.AMBER]} amber, {counts[Colour.RED]} red."
    )
    screen.put(
        findings=[
            {"colour": f.colour.value, "check": f.check, "text": f.text, "code": f.code}
            for f in findings
        ],
        fit=not counts[Colour.RED],
    )


def _green(check: str, text: str) -> Finding:
    return Finding(Colour.GREEN, check, text)


def _amber(check: str, text: str) -> Finding:
    return Finding(Colour.AMBER, check, text)


def _red(check: str, text: str, code: ErrorCode | None = None) -> Finding:
    return Finding(Colour.RED, check, text, "" if code is None else code.value)


def check_clock(site: SiteContext) -> Finding:
    """The clock must not run behind what this site has signed already."""
    rows = site.audit.rows(last=1)
    now = site.clock()
    if rows and (parse_time(rows[0].event.time) - now).total_seconds() > 60:
        return _red("clock", "behind the last event of the audit log; set it by NTP",
                    ErrorCode.INTERNAL_CLOCK)  # fmt: skip
    return _green("clock", f"{now:%Y-%m-%d %H:%M} UTC; compare it with your watch")


def check_disk(site: SiteContext) -> Finding:
    """Without room the audit log cannot be written, and then nothing leaves."""
    free = shutil.disk_usage(site.home).free
    if free < _FULL_DISK_BYTES:
        return _red("disk", f"only {amount(free)} free; nothing leaves when it is full",
                    ErrorCode.INTERNAL_DISK_FULL)  # fmt: skip
    if free < _LOW_DISK_BYTES:
        return _amber("disk", f"{amount(free)} free; make room before the next study")
    return _green("disk", f"{amount(free)} free")


def check_keys(site: SiteContext) -> Finding:
    """Every secret is there and readable by this user alone."""
    exposed = site.keys.exposed()
    if exposed:
        return _red("keys", f"missing or readable by others: {', '.join(exposed)}; chmod 600",
                    ErrorCode.KEY_PERMISSIONS)  # fmt: skip
    folder = site.folders.keys.stat().st_mode & 0o077
    if folder:
        return _amber("keys", "other users may list the folder; chmod 700 keys")
    return _green("keys", "all present, readable by this user only")


def check_config(site: SiteContext) -> Finding:
    """The debug tap writes what leaves in clear and has no place in a hospital."""
    if site.config.debug.unsafe_plaintext_tap:
        return _amber("configuration", "debug.unsafe_plaintext_tap is set: bodies are copied in "
                                       "clear to a file; remove it")  # fmt: skip
    if not site.config.known_vendors:
        return _amber("configuration", "known_vendors is empty: every vendor's plan is shown; list "
                                       "the keys of those you work with")  # fmt: skip
    return _green("configuration", "site.toml is valid; floors are in force")


def check_audit(site: SiteContext) -> Finding:
    """The audit log is whole."""
    report = site.audit.verify()
    if not report.is_intact:
        return _red("audit log", report.problems[0], ErrorCode.AUDIT_BROKEN)
    return _green("audit log", f"{report.entries} events, chain and signatures hold")


def check_ledger(site: SiteContext) -> Finding:
    """The privacy ledger is whole, and the newest there was."""
    report = site.ledger.verify()
    if not report.is_intact:
        return _red("privacy ledger", report.problems[0], ErrorCode.LEDGER_BROKEN)
    site.ledger.check_witness()
    return _green("privacy ledger", f"{report.entries} entries, chain, signatures and rules hold")


def check_writable(site: SiteContext) -> Finding:
    """A transaction can be written now."""
    with site.db.write() as connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('doctor', 'wrote')")
    return _green("database", "writable, write-ahead log, full synchronisation")


def check_hardening(_site: SiteContext) -> Finding:
    """Flower's telemetry, update check and run-time installs are off in what we start."""
    from site_node.flower.launch import check_environment, child_environment

    check_environment(child_environment(Path(os.devnull), os.environ))
    return _green("Flower hardening", "telemetry, update check, run-time installs are off")


def check_versions(_site: SiteContext) -> Finding:
    """Flower is exactly the version this product was tested with."""
    from importlib.metadata import version

    installed = version("flwr")
    if installed != "1.41.0":
        raise ConfigError(
            ErrorCode.CONFIG_HARDENING_MISSING,
            f"Flower {installed} is installed; this product needs exactly 1.41.0.",
            hint="Install the locked set of packages.",
        )
    return _green("Flower version", installed)


def check_text_detection(_site: SiteContext) -> Finding:
    """Without it, images that may show a name in their pixels cannot be taken in."""
    from deid.batch.chosen import text_detection_installed

    if not text_detection_installed():
        return _amber("text detection", "not installed: images that may carry text are "
                                        "set aside; install cohortium[text-detection]")  # fmt: skip
    return _green("text detection", "installed; burned-in text is looked for in every image")


def check_enrolment(site: SiteContext) -> Finding:
    """The certificate is there and not about to end."""
    from cryptography import x509

    from site_node.enrol import CERTIFICATE, read_enrolment

    read_enrolment(site)
    raw = (site.folders.keys / CERTIFICATE).read_bytes()
    left: dt.timedelta = x509.load_pem_x509_certificate(raw).not_valid_after_utc - site.clock()
    if left.total_seconds() <= 0:
        return _red("certificate", "has expired; ask the operator for a new invite",
                    ErrorCode.CERTIFICATE_EXPIRED)  # fmt: skip
    if left.days < _RENEW_DAYS:
        return _amber("certificate", f"ends in {left.days} days; ask the operator for a new one")
    return _green("certificate", f"valid for {left.days} days")


def check_reachable(site: SiteContext) -> Finding:
    """The gateway answers over TLS 1.3 with a certificate of the invite's authority."""
    from site_node.enrol import AUTHORITY, CERTIFICATE, read_enrolment

    if not site.folders.enrolment.exists():
        return _amber("coordinator", "not asked, because this site is not enrolled yet")
    address = urlsplit(read_enrolment(site).gateway_url)
    host, port = address.hostname or "", address.port or 443
    keys = site.folders.keys
    context = ssl.create_default_context(cafile=str(keys / AUTHORITY))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(keys / CERTIFICATE, keys / "tls.key")
    try:
        with (
            socket.create_connection((host, port), timeout=_CONNECT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            spoken = secure.version()
    except ssl.SSLError:
        return _red("coordinator", "answers with a certificate that is not its own; call it",
                    ErrorCode.TLS_UNTRUSTED)  # fmt: skip
    except OSError:
        return _amber("coordinator", f"{host}:{port} does not answer; allow this one outbound "
                                     "connection, or wait (a stop works without it)")  # fmt: skip
    return _green("coordinator", f"{host}:{port} answers, {spoken}")


def check_peers(site: SiteContext) -> Finding:
    """Every imported card is confirmed."""
    open_ones = [p.card.site_id for p in site.peers.all() if p.confirmed_at is None]
    if open_ones:
        return _amber("other hospitals", f"not confirmed: {', '.join(open_ones)}; compare by "
                                         "telephone, then `peers confirm`")  # fmt: skip
    return _green("other hospitals", f"{len(site.peers.all())} confirmed")


CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("clock", check_clock),
    ("disk", check_disk),
    ("keys", check_keys),
    ("configuration", check_config),
    ("database", check_writable),
    ("audit log", check_audit),
    ("privacy ledger", check_ledger),
    ("other hospitals", check_peers),
    ("Flower version", check_versions),
    ("Flower hardening", check_hardening),
    ("text detection", check_text_detection),
    ("certificate", check_enrolment),
    ("coordinator", check_reachable),
)
