"""Could a face be rebuilt from this object's slices?

From CT, MR and PET of a head the skin's surface can be rendered and a person recognised (Schwarz et
al., NEJM 2019). Nothing here removes a face; this module only says what the header states, and
what is not stated counts as a possible head. Only positive evidence of another part of the body,
with no word of the head beside it, lets an object pass as "other".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

_ROOT = "1.2.840.10008.5.1.4.1.1."
_VOLUMES = frozenset(
    _ROOT + tail
    for tail in ("2", "2.1", "2.2", "4", "4.1", "4.3", "4.4", "128", "128.1", "130", "13.1.1")
)
_CRANIOFACIAL = _ROOT + "13.1.2"  # X-Ray 3D Craniofacial: a head by definition
_PHOTOGRAPHS = frozenset(_ROOT + tail for tail in ("77.1.4", "77.1.4.1"))

_WORDS = (
    0x00180015,  # Body Part Examined
    0x0008103E,  # Series Description
    0x00081030,  # Study Description
    0x00181030,  # Protocol Name
    0x00321060,  # Requested Procedure Description
    0x00400254,  # Performed Procedure Step Description
    0x00189423,  # Acquisition Protocol Name
)
_CODES = (
    0x00082218,  # Anatomic Region Sequence
    0x00081032,  # Procedure Code Sequence
    0x0008103F,  # Series Description Code Sequence
    0x00321064,  # Requested Procedure Code Sequence
)
_ESCAPES = re.compile(rb"\x1b[\x20-\x2f]+[\x30-\x7e]")  # ISO 2022 designations (PS3.5 6.1.2.5)
_FRAME_ANATOMY = 0x00209071
_SHARED, _PER_FRAME = 0x52009229, 0x52009230

# Head, face and neck, and what reaches so far: the cervical spine, the whole body. Stems, so that
# "HEADNECK" and "cerebral" are found; "surface", "interface" and "facet" are not faces.
_HEAD = re.compile(
    r"""
    (?<![a-z])(?: head | face(?!t) | neck | brain | skull | ears?(?![a-z]) | eyes?(?![a-z])
      | jaw | nose | nasal | nasoph | dental | dentit | tooth | teeth | tm[j](?![a-z])
      | iac(?![a-z]) | hn(?![a-z]) | h&n | wb(?![a-z]) | vertex | scalp | sella | stroke
      | c[ _-]?-?sp(?:ine|n)?(?![a-z]) | cervical | flair | mprage | kopf | hals | testa | capo
      | tete | cabeza )
    | cerebr | cerebell | crani | encephal | orbit | sinus | facial | maxill | mandib | neuro
    | pituit | hypophys | mastoid | petrous | temporal[ _-]?bone | cochlea | carotid | willis
    | hippocamp | epilep | dement | alzheimer | parkinson | sch[aä]del | gehirn | hirn | cerv
    | whole[ _-]?body | total[ _-]?b | ganzk[oö]rper | full[ _-]?body
    | 두부 | 두경부 | 머리 | 뇌 | 안면 | 얼굴 | 부비동 | 안와 | 경부 | 경추 | 측두 | 두개 | 하악
    | 상악 | 턱 | 치아 | 치과 | 비강 | 귀 | 안구 | 전신 | 뇌하수체 | 목\b | 頭 | 脳 | 腦 | 顔 | 頸
    """,
    re.VERBOSE,
)
_OTHER = re.compile(
    r"""
    chest | thora | lung | pulmon | cardi | coronar | heart | aort | breast | mamm | abdom | pelvi
    | liver | hepat | kidney | renal | urogr | urin | bladder | pancrea | spleen | bowel | colon
    | rect(?:um|al) | prostat | uter | ovar | hip(?![a-z]) | knee | ankle | foot | feet(?![a-z])
    | hand(?![a-z]) | wrist | elbow | shoulder | humerus | femur | femor | tibia | fibula | forearm
    | thigh | calf | finger | toes?(?![a-z]) | extremit | (?<![a-z])leg | (?<![a-z])arm(?![a-z])
    | lumbar | sacr | coccy | (?<![a-z])[lst][ _-]?sp(?:ine|n)?(?![a-z]) | bacino | torace | addome
    | becken | bauch
    | 흉부 | 가슴 | 폐 | 심장 | 관상동맥 | 유방 | 복부 | 골반 | 간담 | 췌장 | 신장 | 전립선 | 자궁
    | 무릎 | 슬관절 | 고관절 | 족 | 발목 | 손목 | 수부 | 어깨 | 견관절 | 주관절 | 팔꿈치 | 상지
    | 하지 | 대퇴 | 요추 | 흉추 | 천추 | 胸 | 腹 | 骨盤
    """,
    re.VERBOSE,
)

# Region codes by scheme, for objects whose code meanings are in another language.
_HEAD_CODES = frozenset(
    {
        *(
            "T-D1100",
            "T-A0100",
            "T-11100",
            "T-D1200",
            "T-D1600",
            "T-D1000",
            "T-11501",
            "T-D0010",
            "T-22000",
            "T-D14AE",
        ),
        *("69536005", "12738006", "89546000", "89545001", "45048000", "774007", "122494005"),
        *("38266002", "363654007", "2095001", "91609006", "70925003", "661005", "117590005"),
        *("81745001", "45206002", "71836000"),
    }
)
_OTHER_CODES = frozenset(
    {
        *("T-D3000", "T-D4000", "T-D6000", "T-28000", "T-04000", "T-32000", "T-62000", "T-15710"),
        *("51185008", "818981001", "816092008", "39607008", "76752008", "80891009", "10200004"),
        *("72696002", "43799004", "113345001", "12921003", "122496007"),
    }
)


@dataclass(frozen=True, slots=True)
class Face:
    """The verdict and its reason, both fixed words.

    Attributes:
        verdict: "head", "unstated", "other" or "not-applicable".
        because: "class", "words", "codes" or "nothing-stated".
    """

    verdict: str
    because: str


def face_verdict(dataset: Dataset) -> Face:
    """Say what an object's header states about the part of the body.

    Volumes (CT, MR, PET, 3D angiography, also enhanced and legacy converted) and photographs are
    judged; screen captures of a CT, MR or PET series only where the head is named, because a
    rendered surface is a face too. Everything else is "not-applicable".
    """
    sop_class = _text(dataset, 0x00080016).strip("\0 ")
    if sop_class == _CRANIOFACIAL:
        return Face("head", "class")
    modality = _text(dataset, 0x00080060).strip("\0 ")
    judged = sop_class in _VOLUMES or sop_class in _PHOTOGRAPHS or modality == "XC"
    if not judged and modality not in ("CT", "MR", "PT"):
        return Face("not-applicable", "class")
    words = " | ".join(_text(dataset, tag) for tag in _WORDS).casefold()
    if _HEAD.search(words):
        return Face("head", "words")
    other = _OTHER.search(words) is not None
    because = "words" if other else "nothing-stated"
    for code, meaning in _codes(dataset):
        if code in _HEAD_CODES or _HEAD.search(meaning):
            return Face("head", "codes")
        if code in _OTHER_CODES or _OTHER.search(meaning):
            other, because = True, "words" if because == "words" else "codes"
    if not judged:
        return Face("not-applicable", "class")
    return Face("other" if other else "unstated", because)


def _codes(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Every code and meaning that names a region or a procedure, in frames too."""
    shared = [i for g in _items(dataset, _SHARED) for i in _items(g, _FRAME_ANATOMY)]
    # PS3.3 C.7.6.16: a functional group stands in the shared sequence or in the frames, not in both
    each = [] if shared else _items(dataset, _PER_FRAME)
    holders = [dataset, *shared, *(i for group in each for i in _items(group, _FRAME_ANATOMY))]
    for holder in holders:
        for tag in _CODES:
            for item in _items(holder, tag):
                yield _text(item, 0x00080100).strip(), _text(item, 0x00080104).casefold()


def _items(dataset: Dataset, tag: int) -> list[Dataset]:
    if tag not in dataset:
        return []
    value = dataset[tag].value
    return list(value) if isinstance(value, Sequence) else []


def _text(dataset: Dataset, tag: int) -> str:
    """An element's text, read from its bytes where pydicom has not converted them yet.

    Bytes beyond ASCII are read in every coding they are valid in, one after the other: only words
    are looked for, a wrong reading holds none, and a wrong character set hides none.
    """
    if tag not in dataset:
        return ""
    element = dataset.get_item(tag)
    raw = element.value if element is not None else None
    if raw is None:
        return ""
    if not isinstance(raw, bytes):
        return str(raw)
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    plain = _ESCAPES.sub(b"", raw)
    readings = []
    for coding in ("utf-8", "cp949", "gb18030", "iso2022_jp"):
        try:
            readings.append((raw if coding == "iso2022_jp" else plain).decode(coding))
        except UnicodeDecodeError:
            continue
    return " ".join(readings) or plain.decode("latin-1")
