from __future__ import annotations

import pytest

from schemas.errors import ErrorCode, TrustError
from site_node.store.crypto import FOOTER, PATIENT, VALUES, StudyKeys
from tests.support.forge import STORE_KEY


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(TrustError) as caught:
        StudyKeys(b"short", "heart")
    assert caught.value.code is ErrorCode.STORE_KEY_WRONG


def test_studies_and_purposes_have_unrelated_keys() -> None:
    heart, cxr = StudyKeys(STORE_KEY, "heart"), StudyKeys(STORE_KEY, "cxr")
    assert heart.manifest_tag(b"x") != cxr.manifest_tag(b"x")
    assert heart.manifest_tag(b"x") == StudyKeys(STORE_KEY, "heart").manifest_tag(b"x")
    keys = [heart._keys[name] for name in (FOOTER, PATIENT, VALUES)] + [heart._manifest]
    assert len(set(keys)) == 4 and all(len(key) == 32 for key in keys)


def test_keys_are_not_shown() -> None:
    assert STORE_KEY.hex() not in repr(StudyKeys(STORE_KEY, "heart"))
