"""Which bytes stand for a document, and how is a document read back from them?

Canonical form is RFC 8785 (JSON Canonicalization Scheme) over every field, defaults included, so
one document has exactly one byte form. Numbers follow ECMAScript: a float 1.0 is written ``1``,
and integers beyond 2**53-1 cannot be written at all (use text for those).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar

import rfc8785
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import CohortiumError, ConfigError, ErrorCode, ProtocolError
from schemas.ids import HexBytes32, HexBytes64

__all__ = ["Document", "HexBytes32", "HexBytes64", "build", "parse", "sha256_hex"]

_PLAIN_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Document(BaseModel):
    """Anything signed, stored for an auditor, or sent: frozen, strict, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    def canonical(self) -> bytes:
        """Give the RFC 8785 bytes.

        Raises:
            ValueError: A number lies outside what JSON can carry exactly (RFC 8785 §3.2.2.3).
        """
        return rfc8785.dumps(self.model_dump(mode="json"))

    def digest(self) -> str:
        """Give the SHA-256 of the canonical bytes, in lower-case hexadecimal."""
        return sha256_hex(self.canonical())


D = TypeVar("D", bound=Document)


def sha256_hex(raw: bytes) -> str:
    """Give SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


class _DuplicateKey(ValueError):
    """A JSON object names one key twice."""


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _DuplicateKey
    return result


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def parse(cls: type[D], raw: bytes, *, max_bytes: int) -> D:
    """Read a document from canonical bytes that nobody has vouched for yet.

    Args:
        cls: The document type expected.
        raw: The bytes as received.
        max_bytes: Limit in bytes, checked before anything is decoded.

    Raises:
        ProtocolError: Too large, not UTF-8, not JSON, a duplicate, unknown, missing or refused
            field, or bytes that are not the canonical form of what they say.
    """
    if len(raw) > max_bytes:
        raise ProtocolError(
            ErrorCode.DOCUMENT_TOO_LARGE,
            f"A {cls.__name__} document is larger than its limit of {max_bytes} bytes.",
            detail=f"{len(raw)} bytes",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError(
            ErrorCode.DOCUMENT_NOT_UTF8, f"A {cls.__name__} document is not UTF-8 text."
        ) from error
    try:
        json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant)
    except _DuplicateKey as error:
        raise ProtocolError(
            ErrorCode.DUPLICATE_KEY, f"A {cls.__name__} document names one key twice."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ProtocolError(
            ErrorCode.DOCUMENT_MALFORMED, f"A {cls.__name__} document is not well-formed JSON."
        ) from error
    return _validated(cls, text, raw, ProtocolError)


def build(cls: type[D], values: Mapping[str, Any], *, name: str = "") -> D:
    """Make a document from plain values (a TOML table, keyword values), lists for tuples.

    Args:
        cls: The document type.
        values: Its fields.
        name: What the person who wrote them calls it, for errors; unknown fields are then named.

    Raises:
        ConfigError: A field is unknown, missing or refused; the hint says why.
    """
    try:
        raw = rfc8785.dumps(dict(values))
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            ErrorCode.FIELD_INVALID,
            f"{_first_up(name) or f'A {cls.__name__}'} holds a value JSON cannot carry.",
        ) from error
    return _validated(cls, raw, None, ConfigError, name)


def _validated(
    cls: type[D],
    text: str | bytes,
    expected: bytes | None,
    raising: type[CohortiumError],
    name: str = "",
) -> D:
    try:
        document = cls.model_validate_json(text)
    except ValidationError as error:
        raise _explained(cls, error, raising, name) from error
    try:
        canonical = document.canonical()
    except ValueError as error:
        raise raising(
            ErrorCode.FIELD_INVALID, f"A {cls.__name__} document holds a number JSON cannot carry."
        ) from error
    if expected is not None and canonical != expected:
        raise raising(
            ErrorCode.DOCUMENT_NOT_CANONICAL,
            f"A {cls.__name__} document is not in canonical form (RFC 8785).",
        )
    return document


def _explained(
    cls: type[Document], error: ValidationError, raising: type[CohortiumError], name: str
) -> CohortiumError:
    """Turn the first problem into a public sentence that quotes no value and no foreign key."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    # An unknown or missing field explains more than what it makes other fields look like.
    order = {"extra_forbidden": 0, "missing": 1}
    first = min(problems, key=lambda problem: order.get(problem["type"], 2))
    where = ".".join(_public_part(part) for part in first["loc"])
    unknown = first["type"] == "extra_forbidden"
    if unknown:
        where = where.rpartition(".")[0]
        code, why = ErrorCode.FIELD_UNKNOWN, "has a field that is not known"
    elif first["type"] == "json_invalid":  # pydantic's parser is stricter: depth, surrogates
        code, why = ErrorCode.DOCUMENT_MALFORMED, "is not well-formed JSON"
    elif first["type"] == "missing":
        code, why = ErrorCode.FIELD_MISSING, "is missing"
    elif first["loc"] and first["loc"][-1] == "version":
        code, why = ErrorCode.VERSION_UNKNOWN, "is not a version known here"
    else:
        code, why = ErrorCode.FIELD_INVALID, "has a value that is not allowed"
    whole = name or f"a {cls.__name__}"
    subject = f"Field '{where}' of {whole}" if where else _first_up(whole)
    hint = first["msg"].removeprefix("Value error, ")
    if unknown and name:  # a person's own file, so its words may be quoted
        return raising(code, f"{subject} {why}.", hint=f"Reason: '{first['loc'][-1]}' is none.")
    return raising(
        code,
        f"{subject} {why}.",
        hint="" if unknown else f"Reason: {hint}.",
        detail=f"{len(problems)} problem(s); first at {first['loc']!r}",
    )


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]


def _public_part(part: int | str) -> str:
    if isinstance(part, int):
        return str(part)
    return part if _PLAIN_NAME.fullmatch(part) else "?"
