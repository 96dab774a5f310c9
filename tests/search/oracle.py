"""Which rules must hold whatever the coordinator does, and how is each seen to be broken?

    few        nothing opens a combination of fewer than m_min hospitals, colluders counted
    agreement  what opens is the plain sum of exactly the hospitals that its contributors agreed to:
               the whole cohort, or the survivors on a list that tau sites signed
    overlap    no two things that open differ in a hospital: each opens in one sum only
    blind      without a colluder no evaluation opens at all
    pad        no stream masks two vectors; a pair's stream is added once and subtracted once
    repeat     one upload per READY, one per attempt, rounds and attempts only go forward
    faithful   an upload is the vector plus exactly the masks the rules know of
    noise      a vector's noise was made for the cohort it was summed in
    list       one list of survivors per attempt, with the site's own upload, large enough
    either-or  one answer to UNMASK, for each site a share or a seed; nobody's self-mask and pair
               seeds both come out
    forged     without a colluder, what a site applies or releases is the sum of one cohort

The first four are decided by linear algebra over everything that left the sites.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.governance.study import StudyPlan
from schemas.secagg import masking
from schemas.secagg.cohort_keys import CohortKeys
from schemas.secagg.keys import PairMask
from schemas.secagg.messages import SignedReady, SurvivorList
from schemas.secagg.streams import Keystream
from schemas.wire import Unmasking
from tests.search.algebra import FIELDS, Vector, free_combinations, project, reduced
from tests.search.ideal import MEMORY


class Violation(AssertionError):
    """A rule was broken.

    Attributes:
        rule: its name in the table above.
    """

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Sent:
    """One honest upload, with what only the site itself knows about it."""

    site: str
    kind: str
    round: int
    attempt: int
    transcript: str
    model: str
    roster: tuple[str, ...]
    members: Mapping[str, SignedReady]
    masks: tuple[tuple[int, bytes], ...]
    symbol: Hashable
    values: NDArray[np.int64]
    update: masking.MaskedUpdate
    noise_for: int

    @classmethod
    def of(
        cls,
        site: str,
        keys: CohortKeys,
        masks: tuple[PairMask, ...],
        members: Mapping[str, SignedReady],
        update: masking.MaskedUpdate,
        drawn: tuple[NDArray[np.int64], int] | None,
        counted: tuple[NDArray[np.int64], str] | None,
    ) -> Sent:
        """Put together what was watched; evaluations of one model by one site are one symbol."""
        attempt = keys.attempt
        streams = [(mask.sign, mask.stream_key) for mask in masks]
        symbol: Hashable
        if drawn is not None:
            (values, noise_for) = drawn
            symbol = (site, "train", attempt.round, attempt.attempt, attempt.transcript_hash)
        else:
            assert counted is not None
            values, noise_for, symbol = counted[0], 0, (site, "evaluate", counted[1])
        if keys.is_blind:
            streams.append((1, blind_key_in_use(keys.group(), site)))
        return cls(
            site,
            attempt.kind,
            attempt.round,
            attempt.attempt,
            attempt.transcript_hash,
            attempt.new_model_hash,
            keys.roster,
            members,
            tuple(streams),
            symbol,
            values,
            update,
            noise_for,
        )

    @property
    def header(self) -> bytes:
        """The header of the READY this upload used, as its self-mask is bound to it."""
        return self.members[self.site].ready.header().canonical()


class Rules:
    """The history of one schedule, and what must be true of it."""

    def __init__(self, plan: StudyPlan, corrupt: frozenset[str]) -> None:
        self.plan = plan
        self.corrupt = corrupt
        self.sent: list[Sent] = []
        self._own: dict[tuple[str, int, int], Sent] = {}
        self._highest: dict[tuple[str, str], tuple[int, int]] = {}
        self._readies: set[str] = set()
        self._streams: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
        self._listed: dict[tuple[str, int, int], SurvivorList] = {}
        self._signers: dict[bytes, set[str]] = defaultdict(set)
        self._lists: dict[bytes, SurvivorList] = {}
        self._answers: dict[tuple[str, int, int], tuple[object, object]] = {}
        self._holders: dict[bytes, set[str]] = defaultdict(set)  # header → sites with known shares
        self._given_up: set[bytes] = set()  # headers whose owner was called lost by somebody
        self._seeds: set[bytes] = set()

    def transcript_of(self, site: str, round_: int, attempt: int) -> str:
        """Return the transcript of the attempt in which a site sent."""
        return self._own[site, round_, attempt].transcript

    # -- one answer at a time -----------------------------------------------------------------

    def uploaded(self, sent: Sent) -> None:
        """Judge an upload."""
        own = sent.members[sent.site].ready.ephemeral_key
        if own in self._readies:
            raise Violation("repeat", f"{sent.site} used one READY for two uploads")
        self._readies.add(own)
        place = (sent.round, sent.attempt)
        if place <= self._highest.get((sent.site, sent.kind), (-1, -1)):
            raise Violation("repeat", f"{sent.site} sent for {sent.kind} {place} or a later one")
        self._highest[sent.site, sent.kind] = place
        if sent.kind == "train":
            self._own[sent.site, *place] = sent
            if sent.noise_for != len(sent.roster):
                raise Violation("noise", f"{sent.site} made noise for {sent.noise_for} sites")
        for sign, stream in sent.masks:
            users = self._streams[stream]
            users.append((sent.site, sign))
            if len(users) > 2 or len({site for site, _ in users}) < len(users):
                raise Violation("pad", f"a stream of {sent.site} masks two vectors")
            if len(users) == 2 and users[0][1] == users[1][1]:
                raise Violation("pad", f"{users[0][0]} and {users[1][0]} both add one stream")
        self._check_faithful(sent)
        self.sent.append(sent)

    def confirmed(self, site: str, survivors: SurvivorList) -> None:
        """Judge a signature under a list of survivors."""
        place = (site, survivors.round, survivors.attempt)
        earlier = self._listed.setdefault(place, survivors)
        if earlier != survivors:
            raise Violation("list", f"{site} signed two lists in one attempt")
        sent = self._own[place]
        named = set(survivors.uploads)
        if site not in named or not named <= set(sent.roster):
            raise Violation("list", f"{site} signed a list without itself or with a stranger")
        if len(named) < self.plan.fewest_summed:
            raise Violation("list", f"{site} signed a list of {len(named)}")
        self._signers[survivors.canonical()].add(site)
        self._lists[survivors.canonical()] = survivors

    def revealed(self, site: str, members: Mapping[str, SignedReady], answer: Unmasking) -> None:
        """Judge an answer to UNMASK, and remember what it makes known."""
        place = (site, answer.round, answer.attempt)
        said = (answer.shares, answer.seeds)
        if self._answers.setdefault(place, said) != said:
            raise Violation("either-or", f"{site} answered UNMASK twice")
        if answer.shares.keys() & answer.seeds.keys():
            raise Violation("either-or", f"{site} gave a share and a seed of one site")
        for owner in answer.shares:
            self._holders[members[owner].ready.header().canonical()].add(site)
        for lost, seed in answer.seeds.items():
            self._seeds.add(bytes.fromhex(seed))
            if site not in self.corrupt:
                self._given_up.add(members[lost].ready.header().canonical())

    def applied(self, site: str, round_: int, values: NDArray[np.int64]) -> None:
        """Judge a training sum that a site accepted."""
        if not self.corrupt and not any(
            _is_sum(values, group)
            for group in self._agreed_groups("train")
            if group[0].round == round_
        ):
            raise Violation("forged", f"{site} applied what no cohort of round {round_} sent")

    def opened(self, site: str, roster: tuple[str, ...], values: NDArray[np.int64]) -> None:
        """Judge an evaluation sum that a site released."""
        if not self.corrupt and not any(
            _is_sum(values, group) and {sent.site for sent in group} == set(roster)
            for group in self._agreed_groups("evaluate")
        ):
            raise Violation("forged", f"{site} released what no cohort counted")

    # -- everything together ------------------------------------------------------------------

    def conclude(self) -> list[frozenset[Hashable]]:
        """Judge all that left the sites; return the contributors of each sum that opens."""
        secret = self._secret_streams()
        rows: list[Vector] = []
        for sent in self.sent:
            row: Vector = {}
            for sign, stream in sent.masks:
                if stream in secret:
                    row[stream] = row.get(stream, 0) + sign
            rows.append(row)
        symbols = [sent.symbol for sent in self.sent]
        found: list[frozenset[Hashable]] = []
        for prime in FIELDS:
            free = free_combinations(rows, prime)
            said = reduced((project(made, symbols, prime) for made in free), prime)
            found = [self._judge(vector) for vector in said]
            for index, one in enumerate(found):
                if any(one & other for other in found[:index]):
                    raise Violation("overlap", f"sums of {_names(one)} and others overlap")
        return found

    def _judge(self, vector: Vector) -> frozenset[Hashable]:
        """Judge one element of what is known of the contributions."""
        support = frozenset(vector)
        contributors = [sent for sent in self.sent if sent.symbol in support]
        sites = {sent.site for sent in contributors}
        if len(sites) + len(self.corrupt) < self.plan.cohort_minimum:
            raise Violation("few", f"only {sorted(sites)} and colluders are behind a sum")
        if not self.corrupt and any(sent.kind == "evaluate" for sent in contributors):
            raise Violation("blind", f"the evaluation of {sorted(sites)} opens")
        groups = [
            group
            for kind in ("train", "evaluate")
            for group in self._agreed_groups(kind)
            if {sent.symbol for sent in group} == support
        ]
        if not groups or len(set(vector.values())) != 1:
            raise Violation("agreement", f"{sorted(sites)} did not agree to be one sum")
        return support

    def _agreed_groups(self, kind: str) -> Iterable[list[Sent]]:
        """Give the honest uploads of each sum that honest sites agreed to."""
        by_view: dict[str, dict[str, Sent]] = defaultdict(dict)
        for sent in self.sent:
            if sent.kind == kind:
                by_view[sent.transcript][sent.site] = sent
        for transcript, uploads in by_view.items():
            roster = next(iter(uploads.values())).roster
            if kind == "train" and self.plan.is_recoverable:
                for statement, survivors in self._lists.items():
                    if survivors.transcript_hash == transcript:
                        yield from self._listed_group(statement, survivors, uploads)
            elif len(roster) >= self.plan.cohort_minimum:
                honest = set(roster) - self.corrupt
                if honest == set(uploads) and len({s.model for s in uploads.values()}) == 1:
                    yield list(uploads.values())

    def _listed_group(
        self, statement: bytes, survivors: SurvivorList, uploads: Mapping[str, Sent]
    ) -> Iterable[list[Sent]]:
        named = set(survivors.uploads)
        signers = self._signers[statement] | (named & self.corrupt)
        if len(signers) < self.plan.survivor_threshold or len(named) < self.plan.fewest_summed:
            return
        if named - self.corrupt <= set(uploads):
            yield [uploads[site] for site in sorted(named - self.corrupt)]

    def _secret_streams(self) -> set[bytes]:
        """Find the streams the adversary cannot make; whatever nobody derived is no secret."""
        opened = self._opened_self_masks()
        secret = set()
        for value, made in MEMORY.derived.items():
            if made.purpose == b"self-mask":
                is_secret = made.context[-1] not in opened
            elif made.purpose == b"blind":
                is_secret = not self.corrupt  # any member opens what the group was sent
            else:
                is_secret = made.purpose == b"pair-mask" and not MEMORY.is_known(value, self._seeds)
            if is_secret:
                secret.add(value[:32])
        return secret

    def _opened_self_masks(self) -> set[bytes]:
        """Find the READY headers whose self-mask tau known shares open.

        Raises:
            Violation: pair seeds of the same site came out as well.
        """
        opened = set()
        for sent in self.sent:
            shares = sent.members[sent.site].ready.mask_shares
            holders = self._holders[sent.header] | (self.corrupt & shares.keys())
            if shares and len(holders) >= self.plan.survivor_threshold:
                opened.add(sent.header)
                if sent.header in self._given_up:
                    raise Violation("either-or", f"{sent.site}'s self-mask and pair seeds are out")
        return opened

    def _check_faithful(self, sent: Sent) -> None:
        words = sent.values.astype(np.uint32)
        mask = np.empty(len(words), dtype="<u4")
        for sign, stream in sent.masks:
            Keystream(stream).fill(mask)
            words = words + mask if sign > 0 else words - mask
        if not np.array_equal(words, sent.update.words):
            raise Violation("faithful", f"{sent.site} sent something else than it says")


def blind_key_in_use(group: bytes, site: str) -> bytes:
    """The key by which `schemas.secagg.masking` blinds: as it is bound there, mutants included."""
    made: bytes = vars(masking)["blind_key"](group, site)
    return made


def _is_sum(values: NDArray[np.int64], group: list[Sent]) -> bool:
    return np.array_equal(values, sum(sent.values for sent in group))


def _names(symbols: frozenset[Hashable]) -> list[str]:
    return sorted(str(symbol[0]) for symbol in symbols if isinstance(symbol, tuple))
