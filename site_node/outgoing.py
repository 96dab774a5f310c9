"""How does a vector become an upload without lying in memory twice?

At 10^8 words every copy is 400 MB. So the message is laid out first, and each piece of the vector
is masked straight into its place there: beside the vector itself there is one upload, and it is
the one that leaves. The tag stands in the header and is known last; it has a fixed width and is
filled in at the end.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.secagg.coordinator import WORD_BYTES, words_to_bytes
from schemas.secagg.masking import CohortKeys, Masker
from schemas.secagg.quantise import NoisedUpdate
from schemas.secagg.streams import chunks
from schemas.wire import Upload, encode_head

NO_TAG: Final = "0" * 16
"""What the header of an upload says until its vector is masked."""


def masked_upload(
    keys: CohortKeys,
    vector: NoisedUpdate | NDArray[np.int64],
    *,
    header: Upload,
    blind: bool = False,
) -> bytes:
    """Hide a whole vector in the message that carries it.

    Args:
        keys: secrets of the attempt; their masks are spent by this call.
        vector: training: noised integers; evaluation: counts. Shape (d,), 32-bit range.
        header: of the message, with `NO_TAG`.
        blind: as for `Masker`.

    Returns:
        The frame of `header` with the tag and, as its one blob, d words.

    Raises:
        ProtocolError: as from `Masker` and its `feed`; then there is no message.
    """
    values = vector.values if isinstance(vector, NoisedUpdate) else vector
    masker = Masker(keys, values.size, blind=blind)
    n_bytes = WORD_BYTES * values.size
    message = io.BytesIO()
    start = position = message.write(encode_head(header, n_bytes))
    # One allocation of the whole: growing piece by piece would copy, and end too long.
    message.seek(start + n_bytes - 1)
    message.write(b"\0")
    with message.getbuffer() as view:
        for part in chunks(len(values)):
            words = words_to_bytes(masker.feed(values[part]))
            view[position : position + len(words)] = words
            position += len(words)
        tagged = header.model_copy(update={"tag": f"{masker.finish():016x}"})
        view[:start] = encode_head(tagged, n_bytes)  # as long as before, or this is refused
    return message.getvalue()  # CPython hands over its buffer; nothing is copied
