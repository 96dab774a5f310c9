"""Which messages cross between the coordinator and a site, and what are their exact bytes?

A message is one frame: ``u32 big-endian header length | canonical JSON header | blob | blob …``.
The header is a `Document` (strict, unknown fields refused) that names the length of every blob, so
a frame has exactly one reading; trailing or missing bytes are refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from schemas.canonical import Document, HexBytes32, HexBytes64, parse
from schemas.errors import ErrorCode, ProtocolError
from schemas.ids import SiteId
from schemas.limits import MAX_FRAME_BYTES, MAX_HEADER_BYTES, MAX_SITES
from schemas.secagg.messages import SignedReady
from schemas.signing import SignedDocument

WIRE_VERSION = 1
Kind = Literal["train", "evaluate"]
BlobSizes = Annotated[tuple[Annotated[int, Field(ge=0, le=MAX_FRAME_BYTES)], ...], FailFast()]
Step = Annotated[int, Field(ge=0, le=1_000_000)]
Tag = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
PairSeed = Annotated[str, Field(pattern=r"^[0-9a-f]{96}$")]
"""48 bytes in hexadecimal: a stream key and a tag mask."""


class SumTag(Document):
    """Name one secure sum sent as a blob: the round it closes and the affine tag beside it.

    `readies` is the signed cohort of that attempt, sent to a site that was away or restarted: it
    can then derive the tag secret and check a sum to which it did not contribute. `survivors` are
    the contributors where some of that cohort were lost; empty means all of it.
    """

    round: Step
    attempt: Step
    tag: Tag
    readies: Annotated[tuple[SignedReady, ...], FailFast()] = ()
    survivors: Annotated[tuple[SiteId, ...], Field(max_length=MAX_SITES)] = ()


class Open(Document):
    """Ask a site to begin (round, attempt); `missing` lists the sums it has not yet applied."""

    message: Literal["open"] = "open"
    version: Literal[1] = 1
    plan_digest: HexBytes32
    kind: Kind
    round: Step
    attempt: Step
    approvals: Annotated[tuple[SignedDocument, ...], FailFast()]
    finals: Annotated[tuple[SignedDocument, ...], FailFast()] = ()
    missing: Annotated[tuple[SumTag, ...], FailFast()] = ()
    blobs: BlobSizes = ()


class CohortCall(Document):
    """Announce who takes part in (round, attempt) by the members' own signed READY messages."""

    message: Literal["cohort"] = "cohort"
    version: Literal[1] = 1
    plan_digest: HexBytes32
    kind: Kind
    round: Step
    attempt: Step
    readies: Annotated[tuple[SignedReady, ...], FailFast()]
    previous: SumTag | None = None
    blobs: BlobSizes = ()


class SurvivorsCall(Document):
    """Name the uploads of (round, attempt) that arrived; each survivor signs the list or refuses.

    Training in recoverable mode only; so are `Confirmation`, `UnmaskCall` and `Unmasking`.
    """

    message: Literal["survivors"] = "survivors"
    version: Literal[1] = 1
    plan_digest: HexBytes32
    round: Step
    attempt: Step
    uploads: Annotated[dict[SiteId, HexBytes32], Field(min_length=1, max_length=MAX_SITES)]
    blobs: BlobSizes = ()


class UnmaskCall(Document):
    """Show the survivors' signatures under one list and ask for what unmasks their sum."""

    message: Literal["unmask"] = "unmask"
    version: Literal[1] = 1
    plan_digest: HexBytes32
    round: Step
    attempt: Step
    confirmations: Annotated[dict[SiteId, HexBytes64], Field(min_length=1, max_length=MAX_SITES)]
    blobs: BlobSizes = ()


class Close(Document):
    """Deliver the last training sum; the site answers with its signed final model hash.

    `missing` lists earlier sums for a site that was away, each as a blob before the last one.
    """

    message: Literal["close"] = "close"
    version: Literal[1] = 1
    plan_digest: HexBytes32
    approvals: Annotated[tuple[SignedDocument, ...], FailFast()]
    missing: Annotated[tuple[SumTag, ...], FailFast()] = ()
    last: SumTag
    blobs: BlobSizes = ()


class Result(Document):
    """Return the coordinator-blind evaluation sum to the sites, which alone can read it."""

    message: Literal["result"] = "result"
    version: Literal[1] = 1
    plan_digest: HexBytes32
    summed: SumTag
    blobs: BlobSizes = ()


class ReadyReply(Document):
    """Answer to OPEN."""

    message: Literal["ready"] = "ready"
    version: Literal[1] = 1
    ready: SignedReady
    blobs: BlobSizes = ()


class Upload(Document):
    """Masked words of one attempt, with the READY of the following round where there is one."""

    message: Literal["upload"] = "upload"
    version: Literal[1] = 1
    plan_digest: HexBytes32
    kind: Kind
    round: Step
    attempt: Step
    tag: Tag
    next_ready: SignedReady | None = None
    blobs: BlobSizes = ()


class Confirmation(Document):
    """Answer to SURVIVORS: this site's signature under the list."""

    message: Literal["confirmation"] = "confirmation"
    version: Literal[1] = 1
    plan_digest: HexBytes32
    round: Step
    attempt: Step
    site_id: SiteId
    signature: HexBytes64
    blobs: BlobSizes = ()


class Unmasking(Document):
    """Answer to UNMASK: shares of survivors' self-masks, pair seeds with the lost; never both."""

    message: Literal["unmasking"] = "unmasking"
    version: Literal[1] = 1
    plan_digest: HexBytes32
    round: Step
    attempt: Step
    site_id: SiteId
    shares: Annotated[dict[SiteId, HexBytes32], Field(max_length=MAX_SITES)]
    seeds: Annotated[dict[SiteId, PairSeed], Field(max_length=MAX_SITES)]
    blobs: BlobSizes = ()


class Final(Document):
    """What a site signs after the last step: the model it holds (sealed with Context.FINAL)."""

    version: Literal[1] = 1
    plan_digest: HexBytes32
    site_id: str
    steps: Step
    model_hash: HexBytes32
    last_sum_hash: HexBytes32


class FinalReply(Document):
    """Answer to CLOSE."""

    message: Literal["final"] = "final"
    version: Literal[1] = 1
    final: SignedDocument
    blobs: BlobSizes = ()


class ReleaseReply(Document):
    """Answer to RESULT: the release bytes (blob) and this site's signature over them."""

    message: Literal["release"] = "release"
    version: Literal[1] = 1
    site_id: str
    signature: HexBytes64
    blobs: BlobSizes = ()


class Refusal(Document):
    """The only way an error crosses the wire: its code."""

    message: Literal["refusal"] = "refusal"
    version: Literal[1] = 1
    code: Annotated[str, Field(pattern=r"^[a-z0-9_.]{3,64}$")]
    blobs: BlobSizes = ()


Request = Open | CohortCall | SurvivorsCall | UnmaskCall | Close | Result
Reply = ReadyReply | Upload | Confirmation | Unmasking | FinalReply | ReleaseReply | Refusal
Message = Request | Reply
M = TypeVar("M", bound=Document)

_BY_NAME: dict[str, type[Document]] = {
    "open": Open,
    "cohort": CohortCall,
    "survivors": SurvivorsCall,
    "unmask": UnmaskCall,
    "close": Close,
    "result": Result,
    "ready": ReadyReply,
    "upload": Upload,
    "confirmation": Confirmation,
    "unmasking": Unmasking,
    "final": FinalReply,
    "release": ReleaseReply,
    "refusal": Refusal,
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One message, decoded. Its blobs look at the body it was read from; nothing is copied."""

    header: Document
    blobs: tuple[memoryview, ...]


def encode(header: Document, *blobs: bytes | memoryview) -> bytes:
    """Build the frame of `header` with `blobs`; the header's blob sizes are filled in here."""
    return b"".join((encode_head(header, *(len(blob) for blob in blobs)), *blobs))


def encode_head(header: Document, *n_bytes: int) -> bytes:
    """Build what comes before the blobs in the frame of `header` with blobs of these lengths."""
    raw = header.model_copy(update={"blobs": n_bytes}).canonical()
    return struct.pack(">I", len(raw)) + raw


def decode(
    raw: bytes,
    *,
    allowed: tuple[type[Document], ...],
    max_header_bytes: int | None = None,
) -> Frame:
    """Read one frame.

    Args:
        raw: the whole body.
        allowed: message types that may arrive here; any other is out of order.
        max_header_bytes: the longest header that these may have, by default that of any. Before
            nonsense is refused it can cost some hundred times its size in memory.

    Raises:
        ProtocolError: MESSAGE_OVERSIZED, MESSAGE_MALFORMED or MESSAGE_OUT_OF_ORDER; also the
            codes of `schemas.canonical.parse` for a header that is not strict canonical JSON.
    """
    if len(raw) > MAX_FRAME_BYTES:
        raise ProtocolError(ErrorCode.MESSAGE_OVERSIZED, "A message is larger than allowed.")
    if len(raw) < 4:
        raise _malformed()
    (length,) = struct.unpack(">I", raw[:4])
    longest = MAX_HEADER_BYTES if max_header_bytes is None else max_header_bytes
    if length > longest or 4 + length > len(raw):
        raise _malformed()
    header_bytes = raw[4 : 4 + length]
    header = parse(_type_of(header_bytes, allowed), header_bytes, max_bytes=longest)
    view = memoryview(raw).toreadonly()
    blobs = []
    position = 4 + length
    sizes: BlobSizes = getattr(header, "blobs", ())
    for size in sizes:
        blobs.append(view[position : position + size])
        position += size
    if position != len(raw):
        raise _malformed()
    return Frame(header, tuple(blobs))


class _Peek(BaseModel):
    """The name of a message, before anything else of it is built."""

    model_config = ConfigDict(extra="ignore")
    message: object = ""


def _type_of(header: bytes, allowed: tuple[type[Document], ...]) -> type[Document]:
    """Find the message type by its name before the strict parse."""
    try:
        peek = _Peek.model_validate_json(header)
    except ValidationError:
        raise _malformed() from None
    cls = _BY_NAME.get(str(peek.message))
    if cls is None:
        raise ProtocolError(ErrorCode.MESSAGE_UNKNOWN, "A message of unknown kind arrived.")
    if cls not in allowed:
        raise ProtocolError(
            ErrorCode.MESSAGE_OUT_OF_ORDER, "A message arrived that has no place here."
        )
    return cls


def _malformed() -> ProtocolError:
    return ProtocolError(ErrorCode.MESSAGE_MALFORMED, "A message does not follow its format.")
