from __future__ import annotations

import pytest

from deid.dicom.charset import DEFAULT, Charset
from deid.dicom.quiet import silent_pydicom


@pytest.mark.parametrize(
    ("declared", "value", "text"),
    [
        (b"ISO_IR 192", "홍^길동".encode(), "홍^길동"),
        (b"ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
        (b"ISO_IR 13", "ﾔﾏﾀﾞ".encode("shift_jis"), "ﾔﾏﾀﾞ"),
        (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (b"\\ISO 2022 IR 149", b"\x1b$)C" + "김희중".encode("euc_kr"), "김희중"),
        (b"", "홍길동".encode("cp949"), "홍길동"),
        (b"\\ISO 2022 IR 149", "홍길동".encode("cp949"), "홍길동"),  # the escape left out
        (b"", "홍길동".encode(), "홍길동"),
        (b"ISO_IR 100", "홍길동".encode(), "홍길동"),
        (b"ISO_IR 100", b"CHEST " + "홍길동".encode("cp949"), "CHEST 홍길동"),
        (b"ISO_IR 100", "Größe ÄÖÜ é".encode("latin-1"), "Größe ÄÖÜ é"),
        (b"NO SUCH SET", b"plain", "plain"),
        (b"", b"padded \0", "padded"),
    ],
)
def test_text_is_what_it_means(declared: bytes, value: bytes, text: str) -> None:
    with silent_pydicom:
        assert Charset.of(declared).decode(value) == text


def test_any_bytes_decode_to_something() -> None:
    with silent_pydicom:
        for declared in (b"", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"GB18030"):
            assert isinstance(Charset.of(declared).decode(bytes(range(256))), str)


def test_a_name_is_read_in_every_group() -> None:
    groups = ("洪^吉洞", "홍^길동")  # each component anew after its escape sequence (PS3.5 annex I)
    parts = [[b"\x1b$)C" + part.encode("euc_kr") for part in g.split("^")] for g in groups]
    value = b"=".join([b"Hong^Gildong", *(b"^".join(group) for group in parts)])
    with silent_pydicom:
        assert "Hong^Gildong=洪^吉洞=홍^길동" in Charset.of(b"\\ISO 2022 IR 149").names(value)


def test_a_korean_name_under_a_wrong_declaration_is_still_found() -> None:
    with silent_pydicom:
        assert "홍^길동" in Charset.of(b"ISO_IR 100").names("홍^길동".encode("cp949"))
    assert DEFAULT.names(b"Hong^Gildong ") == ("Hong^Gildong",)


def test_one_decoder_serves_one_declaration() -> None:
    assert Charset.of(b"ISO_IR 192") is Charset.of(b"ISO_IR 192")
