"""What is done to this attribute of this object, under this profile, and why?

A `Rulebook` holds the rules of one profile, a `ClassRules` those for one SOP class: they find how
strongly the class demands an attribute (`deid.iod`) and leave the rest to `deid.decider`.
"""

from __future__ import annotations

from deid import iod, standard
from deid.actions import Kind
from deid.decider import PIXELS, TEXT_VRS, Decider, Decision, strictness
from deid.iod import IodTypes, Type
from deid.private import safe_element
from deid.profile import Profile
from schemas.errors import ConfigError, ErrorCode

__all__ = ["ClassRules", "Decision", "Rulebook", "loosening_overrides"]

_WAVEFORM_DATA = 0x54001010
_VOICE_CLASSES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.9.4.1", "1.2.840.10008.5.1.4.1.1.9.4.2"}  # Basic Voice, General Audio
)
# Identity of the object and its marking: without them it is no object, or no longer joins.
_ESSENTIAL = frozenset({
    0x00080005, 0x00080016, 0x00080018, 0x00080060, 0x00100010, 0x00100020, 0x00120062, 0x00120064,
    0x0020000D, 0x0020000E,
})  # fmt: skip


class Rulebook:
    """Give the rules of one profile, class by class.

    Raises:
        ConfigError: the profile has no `[dicom]` part.
    """

    def __init__(self, profile: Profile) -> None:
        if not profile.dicom:
            raise ConfigError(
                ErrorCode.DEID_PROFILE_INVALID,
                "This de-identification profile is for tables only.",
                hint="Use the profile “basic” or “research”, or add a [dicom] part.",
            )
        self._profile = profile
        self._decider = Decider(profile)
        self._classes: dict[str, ClassRules] = {}

    def for_class(self, sop_class_uid: str) -> ClassRules:
        """Give the rules for objects of one SOP class; an unknown class gets the strictest."""
        rules = self._classes.get(sop_class_uid)
        if rules is None:
            types = iod.types_for_class(sop_class_uid)
            rules = ClassRules(self._decider, types, sop_class_uid in _VOICE_CLASSES)
            self._classes[sop_class_uid] = rules
        return rules


class ClassRules:
    """Decide every attribute of the objects of one SOP class; answers are remembered."""

    __slots__ = ("_decider", "_found", "_types", "_voice")

    def __init__(self, decider: Decider, types: IodTypes, voice: bool = False) -> None:
        self._decider = decider
        self._types = types
        self._voice = voice
        self._found: dict[tuple[int, int], Decision] = {}

    def decide(self, tag: int, parent: int = 0) -> Decision:
        """Decide one attribute; `parent` is the tag of the enclosing sequence, 0 at the top."""
        decision = self._found.get((tag, parent))
        if decision is None:
            if self._voice and tag == _WAVEFORM_DATA:
                decision = Decision(Kind.DUMMY, "voice", "a voice identifies its speaker")
            elif parent and tag in PIXELS:
                decision = Decision(Kind.REMOVE, "pixels", "pictures in items are not examined")
            else:
                decision = self._decider.decide(tag, self._types.type_of(tag, parent))
            self._found[(tag, parent)] = decision
        return decision

    def decide_private(self, creator: str, tag: int, vr: str, parent: int = 0) -> Decision:
        """Decide one private element.

        Args:
            creator: the creator string of its block as it stands in the file.
            tag: its tag; of the element only the lower byte counts.
            vr: its VR in the file; "UN" is accepted for a listed element, and the caller must then
                decode by `private_vr` and remove what does not decode.
            parent: the tag of the enclosing sequence; private lists do not depend on it.
        """
        return self._decider.decide_private(creator, tag, vr)

    def private_vr(self, creator: str, tag: int) -> str:
        """Give the VR a listed private element must have; empty where it is not listed."""
        found = safe_element(creator, tag)
        return found.vr if found else ""

    def vr(self, tag: int) -> str:
        """Give the dictionary's VR; empty where it does not know the tag."""
        entry = standard.entry(tag)
        return entry.vr if entry else ""


def loosening_overrides(profile: Profile) -> list[int]:
    """Give the tags whose override would be looser than the rule, or would break the object."""
    plain = Decider(profile)
    found = []
    for tag, kind in profile.overrides.items():
        ruled = plain.by_standard(tag, Type.OPTIONAL)
        vr = (standard.entry(tag) or standard.Entry("", "", True)).vr
        if (
            strictness(kind) < strictness(ruled.kind)
            or tag in _ESSENTIAL
            or tag >> 16 in (0x0002, 0x0028, 0x7FE0)
            or (kind is Kind.CLEAN_TEXT and vr not in TEXT_VRS)
        ):
            found.append(tag)
    return found
