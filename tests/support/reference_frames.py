"""How is a body read by SECAGG-19 alone? Strictly, by a second implementer; nothing is imported."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from tests.support.reference_bytes import (
    Refused,
    are_fields,
    canonical,
    fits_by_name,
    fits_text,
    is_name,
    is_signed_ready,
    is_step,
    unique,
)

MAX_BODY: Final = 448 * 1024 * 1024
MAX_HEADER: Final = 32 * 1024 * 1024
Check = Callable[[object], bool]

_HASH, _SIGNATURE, _TAG = (fits_text(f"[0-9a-f]{{{digits}}}") for digits in (64, 128, 16))
_SEED = fits_text("[0-9a-f]{96}")
_KIND = fits_text("train|evaluate")


def _are(check: Check, most: int | None = None) -> Check:
    return lambda value: (
        isinstance(value, list) and (most is None or len(value) <= most) and all(map(check, value))
    )


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_document(value: object) -> bool:
    base64 = fits_text("[A-Za-z0-9+/]*={0,2}")
    return are_fields(value, {"signer": _HASH, "payload": base64, "signature": _SIGNATURE})


def _is_sum(value: object) -> bool:
    readies, survivors = _are(is_signed_ready), _are(is_name, 200)
    place = {"round": is_step, "attempt": is_step}
    needed = {**place, "tag": _TAG}
    return are_fields(value, needed, {"readies": readies, "survivors": survivors})


def _is_length(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_BODY


_PLAN: Final[dict[str, Check]] = {"plan_digest": _HASH}
_PLACE: Final[dict[str, Check]] = {**_PLAN, "round": is_step, "attempt": is_step}
_SIGNED: Final[dict[str, Check]] = {"site_id": is_name, "signature": _SIGNATURE}
_DOCUMENTS, _SUMS = _are(_is_document), _are(_is_sum)
Row = tuple[dict[str, Check], dict[str, Check]]  # what must be there; what is marked with °

TO_SITE: Final[dict[str, Row]] = {
    "open": (
        {**_PLACE, "kind": _KIND, "approvals": _DOCUMENTS},
        {"finals": _DOCUMENTS, "missing": _SUMS},
    ),
    "cohort": (
        {**_PLACE, "kind": _KIND, "readies": _are(is_signed_ready)},
        {"previous": _or_null(_is_sum)},
    ),
    "survivors": ({**_PLACE, "uploads": fits_by_name(_HASH, 1)}, {}),
    "unmask": ({**_PLACE, "confirmations": fits_by_name(_SIGNATURE, 1)}, {}),
    "result": ({**_PLAN, "summed": _is_sum}, {}),
    "close": ({**_PLAN, "approvals": _DOCUMENTS, "last": _is_sum}, {"missing": _SUMS}),
}
TO_COORDINATOR: Final[dict[str, Row]] = {
    "ready": ({"ready": is_signed_ready}, {}),
    "upload": ({**_PLACE, "kind": _KIND, "tag": _TAG}, {"next_ready": _or_null(is_signed_ready)}),
    "confirmation": ({**_PLACE, **_SIGNED}, {}),
    "unmasking": (
        {
            **_PLACE,
            "site_id": is_name,
            "shares": fits_by_name(_HASH, 0),
            "seeds": fits_by_name(_SEED, 0),
        },
        {},
    ),
    "final": ({"final": _is_document}, {}),
    "release": (_SIGNED, {}),
    "refusal": ({"code": fits_text(r"[a-z0-9_.]{3,64}")}, {}),
}


def read_body(raw: bytes, place: Mapping[str, Row]) -> tuple[dict[str, Any], list[bytes]]:
    """Read one message that arrives where those in ``place`` may; return header and blobs."""
    if len(raw) > MAX_BODY:
        raise Refused("message.oversized")
    end = 4 + int.from_bytes(raw[:4], "big")
    if len(raw) < 4 or end - 4 > MAX_HEADER or end > len(raw):
        raise Refused("message.malformed")
    header = _header(raw[4:end], place)
    blobs, position = [], end
    for length in header["blobs"]:
        blobs.append(raw[position : position + length])
        position += length
    if position != len(raw):
        raise Refused("message.malformed")
    return header, blobs


def _header(raw: bytes, place: Mapping[str, Row]) -> dict[str, Any]:
    try:
        named = json.loads(raw.decode())
    except ValueError:
        raise Refused("message.malformed") from None
    if not isinstance(named, dict):
        raise Refused("message.malformed")
    name = named.get("message")
    if not isinstance(name, str) or name not in TO_SITE | TO_COORDINATOR:
        raise Refused("message.unknown")
    if name not in place:
        raise Refused("message.out_of_order")
    header: dict[str, Any] = json.loads(raw, object_pairs_hook=unique, parse_constant=_no_number)
    needed, marked = place[name]
    most = {**marked, "version": None, "blobs": _are(_is_length)}
    if not are_fields(header, {"message": fits_text(name), **needed}, most, version=1):
        raise Refused("document.field_invalid")
    if canonical(header) != raw:
        raise Refused("document.not_canonical")
    return header


def _no_number(_: str) -> NoReturn:
    raise Refused("document.malformed")
