from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from deid.text.tokens import vocabulary, word_allowed

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    "word",
    [
        "CHEST",
        "pneumothorax",
        "Fractures",
        "T2w",
        "3mm",
        "B30f",
        "b1000",
        "ep2d",
        "te30",
        "tr2000",
        "C5",
        "L4",
        "512x512x90",
        "18F",
        "Tc99m",
        "1st",
        "ThorSpiral",
        "LungLow",
        "thxabdo",
        "hepatosplenomegaly",
        "cholecystoduodenostomy",
        "nodules",
        "scanned",
        "폐",
        "결절이",
        "폐에",
        "좌측폐결절",
        "추적관찰",
        "의심됩니다",
        "흉부촬영",
        "수술후",
        "胸部",
        "單純撮影",
        "造影後",
        "スキャン",
        "μ",
    ],
)
def test_clinical_and_technical_words_stay(word: str) -> None:
    assert word_allowed(word)


@pytest.mark.parametrize(
    "word",
    [
        "SMITH",
        "Gildong",
        "A12345678",
        "MRN00123",
        "P12345",
        "CT1234",
        "SE000001",
        "a1b2c3d4e5",
        "HONGGILDONG",
        "홍길동",
        "김철수",
        "이지수",
        "김정상",
        "洪吉洞",
        "山田太郎",
        "ヤマダ",
        "Иванов",
        "x" * 100,
        "scan2012",
        "19991231",
    ],
)
def test_names_and_numbers_go(word: str) -> None:
    assert word.isdigit() or not word_allowed(word)


def test_few_names_are_listed() -> None:
    """Those that are, are words no report can do without (essential.txt)."""
    names = vocabulary().names
    listed = [name for name in names if word_allowed(name) or word_allowed(name.upper())]
    assert len(names) > 8000
    assert len(listed) < 0.03 * len(names)


def test_common_korean_names_are_not_words() -> None:
    surnames = [
        "김",
        "이",
        "박",
        "최",
        "정",
        "강",
        "조",
        "윤",
        "장",
        "임",
        "한",
        "오",
        "서",
        "신",
        "권",
    ]
    given = [
        "민준",
        "서연",
        "도윤",
        "하은",
        "지훈",
        "수빈",
        "예준",
        "지우",
        "현우",
        "영희",
        "철수",
        "순자",
        "길동",
        "성민",
        "은주",
        "미경",
        "상훈",
        "정호",
        "혜진",
        "태현",
    ]
    assert not [a + b for a in surnames for b in given if word_allowed(a + b)]
    assert not [name for name in given if word_allowed(name)]


def test_hardly_any_surname_with_two_given_syllables_reads_as_a_word() -> None:
    syllables = "민서지하도예수현준은유영성정미경혜진상재동태승우윤선희철순"
    names = [s + a + b for s in "김이박최정강조윤장임" for a in syllables for b in syllables]
    assert sum(map(word_allowed, names)) < 0.01 * len(names)


@pytest.mark.parametrize(
    ("fits", "not_so"),
    [("결절은", "결절는"), ("폐는", "폐은"), ("폐로", "간로"), ("간으로", "폐으로")],
)
def test_particles_stand_in_the_form_their_noun_asks_for(fits: str, not_so: str) -> None:
    assert word_allowed(fits)
    assert not word_allowed(not_so)


def test_the_lists_load_quickly_and_late() -> None:
    vocabulary.cache_clear()
    begun = time.process_time()
    vocabulary()
    assert time.process_time() - begun < 0.25  # 15 ms on a quiet machine


def test_the_generated_list_is_what_the_script_writes() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "scripts.make_deid_tokens", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("word", ["㈜ab", "x㈜", "㈀a", "ŉa", "℅ab", "㈜"])
def test_a_sign_that_folds_into_brackets_and_letters_is_judged_too(word: str) -> None:
    assert word_allowed(word) in (True, False)
    assert not word_allowed("㈜kim")
