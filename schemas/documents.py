"""In which shape do documents travel between a site's courier and the coordinator?

Plans, weights, approvals, stops and results, outside any round (ADR 0001). The shapes carry no
trust: what is inside is signed, and whoever uses it checks the signature.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from schemas.canonical import Document, HexBytes32
from schemas.ids import StudyId
from schemas.limits import MAX_APPROVAL_BYTES

MAX_HAVE: Final = 10_000  # documents one site can hold
MAX_PULL_BYTES: Final = 1024 * 1024  # a list of MAX_HAVE digests
MAX_PUSH_BYTES: Final = 4 * MAX_APPROVAL_BYTES  # base64 twice around one approval

Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
PulledKind = Literal["plan", "weights", "approval", "release", "result"]


class PullRequest(Document):
    """What a site has already, by SHA-256 of the bodies."""

    have: Annotated[tuple[HexBytes32, ...], Field(max_length=MAX_HAVE)]


class CarriedDocument(Document):
    """One document on its way to a site."""

    kind: PulledKind
    study_id: StudyId
    sha256: HexBytes32
    body: Base64


class PullResponse(Document):
    """What a site does not have yet, plans before what belongs to them."""

    documents: tuple[CarriedDocument, ...]


class PushRequest(Document):
    """A steward's signed answer, handed in by the site's courier."""

    kind: Literal["approval", "stop"]
    body: Base64


class PushResponse(Document):
    """The answer was stored, now or before."""

    accepted: Literal[True] = True


class SignedResult(Document):
    """The released bytes with every roster site's signature over them."""

    version: Literal[1] = 1
    plan_digest: HexBytes32
    release: Base64
    signatures: dict[str, str]
