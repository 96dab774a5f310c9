"""What is done to every attribute, and what of PS3.15 Annex E is claimed?

Both the list on the screen (`cohortium-deid explain`) and `deid/CONFORMANCE.md` come from the rules
themselves; a test keeps the page equal to what is generated here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from deid import standard
from deid.actions import DICOM_ACTIONS, Kind
from deid.decider import Decider, Decision
from deid.iod import Type, possible_types
from deid.options import Option
from deid.private import safe_elements
from deid.profile import Profile, shipped_profile
from deid.unlisted import Verdict, verdicts

PROFILES = ("basic", "research")  # the shipped profiles that accept DICOM objects
_TYPE_NAMES = {Type.VALUE: "Type 1", Type.PRESENT: "Type 2", Type.OPTIONAL: "Type 3"}


@dataclass(frozen=True, slots=True)
class Line:
    """Hold what a profile does to one attribute.

    Attributes:
        tag: as the standard writes it; a pattern for repeating groups and private elements.
        keyword: the dictionary's keyword, or what stands for it.
        vr: the dictionary's VR; empty where it does not know the tag.
        outcomes: the decision for each type the attribute can have, strongest demand first; one
            decision if it is the same for all.
    """

    tag: str
    keyword: str
    vr: str
    outcomes: tuple[tuple[Type | None, Decision], ...]

    @property
    def short(self) -> str:
        """Give the treatments only: "keep", or "1: dummy, 2: empty, 3: remove"."""
        return ", ".join(
            f"{int(kind)}: {d.kind}" if kind else str(d.kind) for kind, d in self.outcomes
        )

    def __str__(self) -> str:
        parts = []
        for kind, decision in self.outcomes:
            prefix = f"{_TYPE_NAMES[kind]}: " if kind else ""
            is_plain = decision.kind is Kind.KEEP and self.vr != "SQ"
            sentence = "kept" if is_plain else DICOM_ACTIONS[decision.kind].sentence
            parts.append(f"{prefix}{sentence} ({decision.code})")
        because = self.outcomes[0][1].because
        name = " ".join(part for part in (self.tag, self.keyword, self.vr) if part)
        return f"{name}: {'; '.join(parts)}. {because}"


def lines(profile: Profile) -> list[Line]:
    """Give one line for every attribute of the dictionary and of Table E.1-1, by tag."""
    decider = Decider(profile)
    found = [line_of(decider, tag) for tag in standard.every_tag() if tag >> 16 >= 0x0008]
    for pattern, keyword, sample in (
        ("(gggg,0000)", "group length", 0x00100000),
        ("(50xx,eeee)", "curves", 0x50003000),
        ("(60xx,eeee)", "overlays", 0x60003000),
        ("(0009-ffff odd,eeee)", "private elements", 0x00091001),
    ):
        decision = decider.decide(sample, Type.OPTIONAL)
        found.append(Line(pattern, keyword, "", ((None, decision),)))
    if Option.RETAIN_SAFE_PRIVATE in profile.options:
        for (creator, group, element), safe in safe_elements().items():
            decision = decider.decide_private(creator, group << 16 | 0x1000 | element, safe.vr)
            tag = f"({group:04X},xx{element:02X})"
            found.append(Line(tag, f"“{creator}”", safe.vr, ((None, decision),)))
    return found


def line_of(decider: Decider, tag: int) -> Line:
    """Give the line of one attribute; types it cannot have are left out."""
    entry = standard.entry(tag)
    outcomes: list[tuple[Type | None, Decision]] = [
        (kind, decider.decide(tag, kind)) for kind in possible_types(tag)
    ]
    if len({decision.kind for _, decision in outcomes}) == 1:
        outcomes = [(None, outcomes[-1][1])]
    return Line(
        tag=standard.show_tag(tag),
        keyword=entry.keyword if entry else "",
        vr=entry.vr if entry else "",
        outcomes=tuple(outcomes),
    )


def markdown() -> str:
    """Give the text of `deid/CONFORMANCE.md`."""
    template = (resources.files("deid") / "data" / "conformance.md").read_text("utf-8")
    parts = {
        "EDITION_BASIC": standard.EDITION_BASIC,
        "EDITION_OPTIONS": standard.EDITION_OPTIONS,
        "OPTIONS": _options(),
        "COUNTS": _counts(),
        "LISTED": _listed(),
        "REVIEWED": _reviewed(),
        "BY_RULE": _by_rule(),
        "PRIVATE": _private(),
    }
    for name, text in parts.items():
        template = template.replace("{{" + name + "}}", text)
    return template


def _options() -> str:
    profiles = [shipped_profile(name) for name in PROFILES]
    head = ["code (CID 7050)", "option", "in a profile", *PROFILES]
    claimed = {p.name: dict(p.method_codes) for p in profiles}
    body = [["113100", "Basic Application Confidentiality Profile", "", *("claimed",) * 2]]
    for option in Option:
        marks = [
            "claimed" if option.code in claimed[p.name] else "–"
            for p in profiles
        ]  # fmt: skip
        body.append([option.code, option.title, f"`{option.value}`", *marks])
    return _table(head, body)


def _counts() -> str:
    body = []
    for name in PROFILES:
        counts: dict[Kind, int] = defaultdict(int)
        for line in lines(shipped_profile(name)):
            counts[line.outcomes[-1][1].kind] += 1
        body.append([name, *(str(counts[kind]) for kind in Kind)])
    return _table(["", *(str(kind) for kind in Kind)], body)


def _listed() -> str:
    deciders = [Decider(shipped_profile(name)) for name in PROFILES]
    body = []
    for tag, row in standard.rows().items():
        found = [line_of(decider, tag) for decider in deciders]
        letters = [f"{option}={letter}" for option, letter in row.letters.items()]
        options = ", ".join(letters) if row.options_known else "not known"
        body.append(_row(found, row.code, options))
    return _table(["tag", "attribute", "VR", "code", "options", *PROFILES], body)


def _reviewed() -> str:
    deciders = [Decider(shipped_profile(name)) for name in PROFILES]
    parts = []
    for verdict in Verdict:
        body = [
            _row([line_of(decider, tag) for decider in deciders], reviewed.why)
            for tag, reviewed in sorted(verdicts().items())
            if reviewed.verdict is verdict
        ]
        head = ["tag", "attribute", "VR", "why", *PROFILES]
        parts.append(f"### {verdict}\n\n{_table(head, body)}")
    return "\n".join(parts)


def _by_rule() -> str:
    """Give what is neither in the table nor reviewed, grouped by VR and outcome."""
    deciders = [Decider(shipped_profile(name)) for name in PROFILES]
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for tag in standard.every_tag():
        entry = standard.entry(tag)
        if tag in standard.rows() or tag in verdicts() or entry is None or tag >> 16 < 0x0008:
            continue
        found = [line_of(decider, tag) for decider in deciders]
        rule = "retired" if entry.retired else found[0].outcomes[-1][1].code
        key = (entry.vr, rule, *(line.short for line in found))
        groups[key].append(entry.keyword or standard.show_tag(tag))
    parts = []
    for (vr, rule, *shorts), keywords in sorted(groups.items()):
        outcome = "; ".join(f"{n}: {s}" for n, s in zip(PROFILES, shorts, strict=True))
        title = f"**{vr}, {rule}** ({len(keywords)}) – {outcome}"
        parts.append(f"{title}\n\n<details>{', '.join(keywords)}</details>\n")
    return "\n".join(parts)


def _private() -> str:
    body = []
    for (creator, group, element), safe in safe_elements().items():
        body.append([f"`{creator}`", f"({group:04X},xx{element:02X})", safe.vr, safe.why])
    return _table(["creator", "element", "VR", "why"], body)


def _row(found: Sequence[Line], *middle: str) -> list[str]:
    first = found[0]
    return [first.tag, first.keyword, first.vr, *middle, *(line.short for line in found)]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    return "\n".join(_table_lines(head, body)) + "\n"


def _table_lines(head: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for cells in body:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
