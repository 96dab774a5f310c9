"""Which pages are there? Read-only, on loopback, with every asset shipped in this package."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from coordinator.api.problems import Edge
from coordinator.db import Database
from coordinator.overview import Overview
from coordinator.web import charts
from schemas.errors import CohortiumError
from schemas.privacy.statement import rounded_up

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_ASSETS: Final = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}
_LOCAL_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_KIND_WORDS: Final = {
    "masked-update": "masked update",
    "masked-evaluation": "masked evaluation",
    "model-hash": "signed model hash",
    "release": "signed result",
    "approval": "approval",
    "stop": "stop",
    "refusal": "refusal code",
}


def make_page(database: Database, coordinator_name: str) -> ASGIApp:
    """Build the page over the database; it only reads."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    overview = Overview(database)
    templates = Environment(
        loader=PackageLoader("coordinator.web"), autoescape=True, undefined=StrictUndefined
    )
    templates.filters.update(
        bytes=readable_bytes,
        moment=readable_moment,
        number=readable_number,
        epsilon=rounded_up,
        kind=_kind,
    )
    templates.globals.update(
        roc_chart=charts.roc_chart,
        rounds_chart=charts.rounds_chart,
        interval_chart=charts.interval_chart,
    )

    def render(name: str, status: int = 200, **values: Any) -> Response:
        text = templates.get_template(name).render(
            coordinator=coordinator_name, now=database.now(), **values
        )
        return Response(text, status, media_type="text/html; charset=utf-8", headers=_HEADERS)

    @app.exception_handler(Exception)
    def failed(_request: Request, _error: Exception) -> Response:
        return Response(status_code=500, headers=_HEADERS)

    @app.exception_handler(HTTPException)
    @app.exception_handler(CohortiumError)
    def not_found(_request: Request, _error: Exception) -> Response:
        return render("missing.html", status=404)

    @app.middleware("http")
    async def only_this_machine(request: Request, call_next: Any) -> Response:
        # Another site's page could point a name of its own at loopback (DNS rebinding).
        if request.headers.get("host", "").rpartition(":")[0] not in _LOCAL_NAMES:
            return Response(status_code=403, headers=_HEADERS)
        answer: Response = await call_next(request)
        return answer

    @app.get("/")
    def home() -> Response:
        return render("home.html", studies=overview.studies(), hospitals=overview.hospitals())

    @app.get("/studies/{study_id}")
    def study(study_id: str) -> Response:
        return render("study.html", study=overview.study(study_id))

    @app.get("/static/{name}")
    def asset(name: str) -> Response:
        media = _ASSETS.get(name)
        if media is None:
            raise HTTPException(404)
        raw = (resources.files("coordinator.web") / "static" / name).read_bytes()
        return Response(raw, media_type=media, headers=_HEADERS)

    @app.get("/favicon.ico")
    def icon() -> Response:
        return asset("mark.svg")

    return Edge(app)


def readable_bytes(count: int) -> str:
    """Write a number of bytes with its unit: 3.2 MiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def readable_moment(text: str) -> str:
    """Write a stored time for people: 22 Nov 2026, 18:00 UTC."""
    from coordinator.clock import read_stamp

    return read_stamp(text).strftime("%-d %b %Y, %H:%M UTC") if text else "–"


def readable_number(value: float) -> str:
    """Write a small or large number shortly: 1e-05, 0.75, 12 000."""
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    return f"{value:.4g}"


def _kind(word: str) -> str:
    return _KIND_WORDS.get(word, word)
