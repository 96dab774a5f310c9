"""How is a long body cut into pieces of bounded size, and put together again without doubt?

Every piece but the last is exactly `PIECE_BYTES` long and at least one byte is in the last, so a
length has one cut only. Whoever reads announces length and SHA-256 first and then takes the pieces
in order; anything else is refused with a code.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import re
from dataclasses import dataclass
from typing import Final

from schemas.errors import ErrorCode, ProtocolError
from schemas.limits import MAX_FRAME_BYTES, PIECE_BYTES

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def piece_count(n_bytes: int) -> int:
    """Give the number of pieces of a body of `n_bytes`; an empty body is one empty piece."""
    return max(1, -(-n_bytes // PIECE_BYTES))


def piece_of(body: bytes, index: int) -> memoryview:
    """Give piece `index` of `body` without copying it.

    Raises:
        IndexError: there is no such piece.
    """
    if not 0 <= index < piece_count(len(body)):
        raise IndexError(index)
    return memoryview(body)[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]


@dataclass(frozen=True, slots=True)
class Announcement:
    """Length and SHA-256 (hex) of a body that comes in more than one piece."""

    n_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        """Refuse what no body can be.

        Raises:
            ProtocolError: MESSAGE_OVERSIZED; MESSAGE_MALFORMED for a body that is one piece, whose
                one form is to come unannounced, and for a text that is no hash.
        """
        if self.n_bytes > MAX_FRAME_BYTES:
            raise ProtocolError(ErrorCode.MESSAGE_OVERSIZED, "A message is larger than allowed.")
        if self.n_bytes <= PIECE_BYTES or _SHA256.fullmatch(self.sha256) is None:
            raise ProtocolError(
                ErrorCode.MESSAGE_MALFORMED, "A message is announced in a form it cannot have."
            )

    @property
    def n_pieces(self) -> int:
        """How many pieces follow."""
        return piece_count(self.n_bytes)


def announce(body: bytes) -> Announcement:
    """Give what must be said of a body of more than one piece before its pieces."""
    return Announcement(len(body), hashlib.sha256(body).hexdigest())


class Assembly:
    """A body being put together; it holds the body once and no piece beside it."""

    def __init__(self, announced: Announcement) -> None:
        """Begin with what was announced."""
        self._announced = announced
        self._hash = hashlib.sha256()
        self._next = 0
        self._out = io.BytesIO()

    @property
    def n_missing(self) -> int:
        """How many pieces have yet to come."""
        return self._announced.n_pieces - self._next

    def add(self, index: int, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            ProtocolError: PIECES_OUT_OF_ORDER for any other than the next one, or one too many;
                MESSAGE_LENGTH_WRONG for a length that is not this piece's.
        """
        if index != self._next or not self.n_missing:
            raise ProtocolError(
                ErrorCode.PIECES_OUT_OF_ORDER,
                "A piece of a message came twice, too early or beyond its end.",
            )
        rest = self._announced.n_bytes - index * PIECE_BYTES
        if len(piece) != min(PIECE_BYTES, rest):
            raise ProtocolError(
                ErrorCode.MESSAGE_LENGTH_WRONG, "A piece of a message has not its length."
            )
        if index == 0:
            # One allocation of the whole: growing piece by piece would copy, and end too long.
            self._out.seek(self._announced.n_bytes - 1)
            self._out.write(b"\0")
            self._out.seek(0)
        self._out.write(piece)
        self._hash.update(piece)
        self._next += 1

    def finish(self) -> bytes:
        """Give the body, and let go of it.

        Raises:
            ProtocolError: PIECES_OUT_OF_ORDER while a piece is missing; PIECES_CHANGED if the
                whole has not the announced hash.
        """
        if self.n_missing:
            raise ProtocolError(ErrorCode.PIECES_OUT_OF_ORDER, "A piece of a message is missing.")
        if not hmac.compare_digest(self._hash.hexdigest(), self._announced.sha256):
            raise ProtocolError(
                ErrorCode.PIECES_CHANGED, "The pieces of a message are not what was announced."
            )
        out, self._out = self._out, io.BytesIO()
        return out.getvalue()  # CPython hands over its buffer; nothing is copied
