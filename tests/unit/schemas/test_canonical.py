"""Has a document exactly one byte form, and is every other form refused with its own code?"""

from __future__ import annotations

import contextlib
import json
import struct
from enum import StrEnum
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from schemas.canonical import Document, build, parse, sha256_hex
from schemas.errors import ConfigError, ErrorCode, ProtocolError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Document):
    name: str
    weight: float = 1.0


class Outer(Document):
    version: Literal[1] = 1
    count: int
    ratio: float
    flag: bool = False
    colour: Colour = Colour.RED
    note: str | None = None
    inner: tuple[Inner, ...] = ()
    table: dict[str, str | int] = Field(default_factory=dict)


LIMIT = 4096
texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**53) + 1, 2**53 - 1)
outers = st.builds(
    Outer,
    count=integers,
    ratio=numbers,
    flag=st.booleans(),
    colour=st.sampled_from(Colour),
    note=st.none() | texts,
    inner=st.lists(st.builds(Inner, name=texts, weight=numbers), max_size=4).map(tuple),
    table=st.dictionaries(texts, texts | integers, max_size=4),
)


def refusal(raw: bytes, *, max_bytes: int = LIMIT) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        parse(Outer, raw, max_bytes=max_bytes)
    return caught.value


def raw_outer(**changes: Any) -> bytes:
    values: dict[str, Any] = json.loads(Outer(count=1, ratio=0.5).canonical())
    values.update(changes)
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


@given(outers)
def test_canonical_bytes_survive_the_round_trip(document: Outer) -> None:
    raw = document.canonical()
    again = parse(Outer, raw, max_bytes=len(raw))
    assert again.canonical() == raw
    assert again.digest() == document.digest() == sha256_hex(raw)
    assert again == document


@given(outers, outers)
def test_different_documents_have_different_bytes(one: Outer, other: Outer) -> None:
    assert (one.canonical() == other.canonical()) == (one == other)


@pytest.mark.parametrize(
    ("bits", "text"),
    [  # RFC 8785 appendix B
        (0x0000000000000000, "0"),
        (0x8000000000000000, "0"),
        (0x0000000000000001, "5e-324"),
        (0x7FEFFFFFFFFFFFFF, "1.7976931348623157e+308"),
        (0x4340000000000000, "9007199254740992"),
        (0x4430000000000000, "295147905179352830000"),
        (0x44B52D02C7E14AF6, "1e+23"),
        (0x444B1AE4D6E2EF50, "1e+21"),
        (0x3EB0C6F7A0B5ED8D, "0.000001"),
        (0x3EB0C6F7A0B5ED8C, "9.999999999999997e-7"),
        (0x41B3DE4355555555, "333333333.3333333"),
        (0xBECBF647612F3696, "-0.0000033333333333333333"),
        (0x43143FF3C1CB0959, "1424953923781206.2"),
    ],
)
def test_numbers_are_written_as_rfc_8785_says(bits: int, text: str) -> None:
    (number,) = struct.unpack(">d", bits.to_bytes(8, "big"))
    document = Inner(name="", weight=number)
    assert document.canonical() == b'{"name":"","weight":' + text.encode() + b"}"
    assert parse(Inner, document.canonical(), max_bytes=LIMIT) == document


def test_keys_are_sorted_by_utf16_and_defaults_are_written() -> None:
    # U+1F600 begins with the code unit D83D and comes before U+FB33 (RFC 8785 §3.2.3).
    document = Outer(count=1, ratio=1.0, table={"\ufb33": 1, "\U0001f600": 2, "a": 3})
    expected = (
        '{"colour":"red","count":1,"flag":false,"inner":[],"note":null,"ratio":1,'
        '"table":{"a":3,"\U0001f600":2,"\ufb33":1},"version":1}'
    )
    assert document.canonical() == expected.encode()


def test_an_integral_float_is_written_and_read_as_an_integer() -> None:
    document = parse(Outer, raw_outer(ratio=3), max_bytes=LIMIT)
    assert document.ratio == 3.0 and isinstance(document.ratio, float)


def test_size_is_checked_before_anything_is_decoded() -> None:
    assert refusal(b"\xff" * 11, max_bytes=10).code is ErrorCode.DOCUMENT_TOO_LARGE


@pytest.mark.parametrize("raw", [b"\xff\xfe{}", raw_outer()[:-1] + b"\xc3", "{}".encode("utf-16")])
def test_other_encodings_are_refused(raw: bytes) -> None:
    assert refusal(raw).code is ErrorCode.DOCUMENT_NOT_UTF8


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nope",
        b'{"count":NaN}',
        b'{"count":Infinity}',
        b"[" * 2000,
        b"[" * 150_000,
        b"1" * 5000,
        b'{"a":1}{"a":1}',
        b"\xef\xbb\xbf{}",
        b'{"note":"\\ud800"}',
        b"{'count':1}",
        b"{/**/}",
    ],
)
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    assert refusal(raw, max_bytes=200_000).code is ErrorCode.DOCUMENT_MALFORMED


def test_a_duplicate_key_is_refused_at_any_depth() -> None:
    raw = raw_outer()
    assert refusal(raw[:-1] + b',"version":1}').code is ErrorCode.DUPLICATE_KEY
    nested = raw.replace(b'"inner":[]', b'"inner":[{"name":"a","name":"b","weight":1}]')
    assert refusal(nested).code is ErrorCode.DUPLICATE_KEY
    escaped = raw.replace(b'"count":1', b'"count":1,"\\u0063ount":1')
    assert refusal(escaped).code is ErrorCode.DUPLICATE_KEY


def test_an_unknown_field_is_refused_and_not_quoted() -> None:
    error = refusal(raw_outer(zz_patient_kim="x"))
    assert error.code is ErrorCode.FIELD_UNKNOWN
    assert "kim" not in str(error)
    nested = raw_outer(inner=[{"name": "a", "weight": 1, "x": 1}])
    assert refusal(nested).code is ErrorCode.FIELD_UNKNOWN
    assert "'inner.0'" in refusal(nested).sentence


def test_a_missing_field_is_refused_by_name() -> None:
    values = json.loads(raw_outer())
    del values["count"]
    error = refusal(json.dumps(values).encode())
    assert error.code is ErrorCode.FIELD_MISSING
    assert "'count'" in error.sentence


def test_a_missing_default_is_not_canonical() -> None:
    values = json.loads(raw_outer())
    del values["flag"]
    raw = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    assert refusal(raw).code is ErrorCode.DOCUMENT_NOT_CANONICAL


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", "1"),
        ("count", 1.5),
        ("count", True),
        ("count", None),
        ("ratio", "0.5"),
        ("ratio", True),
        ("flag", 1),
        ("colour", "green"),
        ("note", 5),
        ("inner", {"name": "a"}),
        ("table", {"a": 1.5}),
        ("table", {"a": True}),
        ("table", {"a": None}),
    ],
)
def test_nothing_is_coerced(field: str, value: object) -> None:
    error = refusal(raw_outer(**{field: value}))
    assert error.code is ErrorCode.FIELD_INVALID
    assert f"'{field}" in error.sentence


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused_as_such(version: object) -> None:
    assert refusal(raw_outer(version=version)).code is ErrorCode.VERSION_UNKNOWN


def test_an_integer_json_cannot_carry_is_refused() -> None:
    assert refusal(raw_outer(count=2**53)).code is ErrorCode.FIELD_INVALID
    with pytest.raises(ValueError, match="safe integer"):
        Outer(count=2**53, ratio=0.0).canonical()


def test_an_infinite_number_cannot_be_made() -> None:
    for number in (float("inf"), float("nan")):
        with pytest.raises(ValidationError):
            Outer(count=1, ratio=number)
    assert refusal(raw_outer().replace(b"0.5", b"1e999")).code is ErrorCode.FIELD_INVALID


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"count":1', b'"count": 1'),
        (b'"ratio":0.5', b'"ratio":5e-1'),
        (b'"ratio":0.5', b'"ratio":0.50'),
        (b'"note":null', b'"note":"\\u0041"'),
        (b'"version":1}', b'"version":1}\n'),
    ],
)
def test_a_second_spelling_is_refused(old: bytes, new: bytes) -> None:
    assert refusal(raw_outer().replace(old, new)).code is ErrorCode.DOCUMENT_NOT_CANONICAL


def test_keys_in_another_order_are_refused() -> None:
    values = json.loads(raw_outer())
    raw = json.dumps(dict(reversed(values.items())), separators=(",", ":")).encode()
    assert refusal(raw).code is ErrorCode.DOCUMENT_NOT_CANONICAL


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_refusal_and_nothing_else(raw: bytes) -> None:
    refusal(raw)


@settings(max_examples=300)
@given(outers, st.data())
def test_a_changed_byte_never_reads_as_the_same_document(document: Outer, data: Any) -> None:
    raw = bytearray(document.canonical())
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ProtocolError):
        assert parse(Outer, bytes(raw), max_bytes=LIMIT * 4) != document


@given(
    st.recursive(
        st.none() | st.booleans() | integers | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_is_a_document_or_refused(value: object) -> None:
    refusal(json.dumps(value).encode(), max_bytes=10**6)


def test_a_document_cannot_be_changed_in_place() -> None:
    document = Outer(count=1, ratio=0.5)
    with pytest.raises(ValidationError):
        document.count = 2  # type: ignore[misc]


def test_build_takes_plain_values_with_lists() -> None:
    document = build(Outer, {"count": 1, "ratio": 2, "inner": [{"name": "a"}]})
    assert document == Outer(count=1, ratio=2.0, inner=(Inner(name="a"),))


def test_build_refuses_as_a_configuration_error_with_the_reason() -> None:
    with pytest.raises(ConfigError) as unknown:
        build(Outer, {"count": 1, "ratio": 2, "colur": "red"})
    assert unknown.value.code is ErrorCode.FIELD_UNKNOWN
    with pytest.raises(ConfigError) as wrong:
        build(Outer, {"count": "1", "ratio": 2})
    assert wrong.value.code is ErrorCode.FIELD_INVALID
    assert "valid integer" in wrong.value.hint
    for value in (float("nan"), 2**60, object(), {1: 2}):
        with pytest.raises(ConfigError) as uncarried:
            build(Outer, {"count": value, "ratio": 2})
        assert uncarried.value.code is ErrorCode.FIELD_INVALID
