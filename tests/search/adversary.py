"""Which schedules are tried? A coordinator that mixes the honest course with everything else.

A schedule is one study. In every attempt the coordinator collects READYs, shows each site some
view of them, collects updates, names survivors, asks for unmasking and hands sums on; at each of
these points it draws how far it departs from what is honest: views that agree, split, overlap or
form a ring; members left out, repeated, replayed or altered; lists that differ between sites;
signatures for one list shown under another; sums altered, exchanged or held back; sites restarted
in between. Undirected chaos is one of the plots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.secagg.field import PRIME
from schemas.secagg.masking import MaskedSum
from schemas.secagg.messages import SignedReady, SurvivorList
from schemas.wire import SumTag
from tests.search.scenes import SCENES, Scene
from tests.search.world import Slot, Sum, View, World

T = TypeVar("T")
PATTERNS = (
    *("same", "same", "same", "two", "two", "ring", "ring"),
    *("groups", "random", "versions", "spliced"),
)
LISTS = ("same", "same", "split", "split", "split", "random", "second", "lie")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one schedule did.

    Attributes:
        counts: answers by message and outcome, and sums by what became of them.
        opened: how many independent sums the adversary could read.
    """

    counts: dict[str, int]
    opened: int


class Adversary:
    """One coordinator in one world, with dice."""

    def __init__(self, world: World, dice: Random) -> None:
        self.world = world
        self.dice = dice
        self.sites = world.plan.site_ids

    # -- moves: also the rules of the state machine -------------------------------------------

    def collect(self, slot: Slot, sites: Sequence[str] | None = None) -> None:
        """Ask for READYs, honest sites first, since colluders copy what honest ones say."""
        world, dice = self.world, self.dice
        order = sorted(sites or self.sites, key=lambda site: site in world.colluders)
        approvals = world.approvals
        if dice.random() < 0.05:  # hide that somebody approved
            approvals = tuple(dice.sample(approvals, len(approvals) - 1))
        for site in order:
            world.open(site, slot, self.missing(site, slot), approvals)
            if site in world.colluders and dice.random() < 0.3:
                world.open(site, slot)  # a second face

    def show(self, slot: Slot, pattern: str) -> list[View]:
        """Show every site a view; return the views that anybody sent an update for."""
        views = self._views(slot, pattern)
        for site in self._shuffled(views):
            if site in self.world.honest:
                self._show_one(site, views[site])
        return self.live(slot)

    def name_survivors(self, view: View, how: str) -> list[SurvivorList]:
        """Ask the members of a view, and others who sent, to sign lists drawn as ``how`` says."""
        world, dice = self.world, self.dice
        lists = [self._list(view)]
        if how in ("split", "random"):
            lists.append(self._list(dice.choice(self.live(view.slot))))
        if how == "lie":
            lists = [world.list_of(view, lists[0].uploads, lie="lie")]
        senders = [s for v in self.live(view.slot) for s in sorted(v.members)]
        for site in self._shuffled(dict.fromkeys(senders)):
            if site in world.colluders:
                for each in lists:
                    world.survivors(site, each)
            elif how == "random" and dice.random() < 0.3:
                world.survivors(site, self._list(view))
            else:
                # A site signs only lists with itself: offer it one of those first.
                fitting = [each for each in lists if site in each.uploads] or lists
                first = dice.choice(fitting)
                world.survivors(site, first)
                if how == "second" or dice.random() < 0.1:
                    world.survivors(site, dice.choice([*lists, self._list(view)]))
        return lists

    def unmask(self, slot: Slot, is_mixed: bool) -> None:
        """Ask for unmasking; honestly shown signatures, or those of all lists together."""
        world, dice = self.world, self.dice
        _, round_, attempt = slot
        known = [each for each in world.lists if (each.round, each.attempt) == (round_, attempt)]
        if not known:
            return
        everything: dict[str, str] = {}
        for each in self._shuffled(known):
            everything.update(world.signatures[each.canonical()])
        for site in self._shuffled(world.honest):
            if dice.random() < 0.1:
                continue
            signed = [each for each in known if site in world.signatures[each.canonical()]]
            if is_mixed or not signed:
                shown = everything
            else:
                shown = world.signatures[dice.choice(signed).canonical()]
            world.unmask(site, round_, attempt, shown)
            if dice.random() < 0.05:
                world.unmask(site, round_, attempt, shown)

    def add_up(self, slot: Slot) -> list[Sum]:
        """Make every sum of this attempt that can be made, and keep those of training."""
        world = self.world
        sums = []
        for view in self.live(slot):
            candidates: list[SurvivorList | None] = [None]
            if slot[0] == "train" and world.plan.is_recoverable:
                candidates = [
                    each for each in world.lists if each.transcript_hash == view.transcript
                ]
            for survivors in candidates:
                made = world.sum_of(view, survivors)
                if made is not None:
                    sums.append(made)
        if slot[0] == "train":
            world.sums[slot[1]].extend(sums)
        return sums

    def alter(self, slot: Slot) -> Sum | None:
        """Bend a sum, or make one of a part of the updates."""
        world, dice = self.world, self.dice
        good = world.sums[slot[1]] if slot[0] == "train" else []
        if good and dice.random() < 0.5:
            tag, blob = dice.choice(good)
            return self._bent(tag, np.frombuffer(blob, dtype="<i4").astype(np.int64))
        views = self.live(slot)
        if not views:
            return None
        view = dice.choice(views)
        chosen = list(world.uploads[view.transcript].values())
        how = dice.choice(("zero", "part", "union"))
        if how == "part":
            chosen = chosen[: dice.randint(1, len(chosen))]
        elif how == "union":
            chosen += [u for v in views for u in world.uploads[v.transcript].values()]
        words: NDArray[np.uint32] = np.zeros(chosen[0].words.shape, dtype=np.uint32)
        for update in chosen if how != "zero" else ():
            words += update.words
        total = sum(update.tag for update in chosen) if how != "zero" else 0
        named = sorted(view.members)
        claimed = dice.choice(((), tuple(dice.sample(named, dice.randint(1, len(named))))))
        return world.tagged(view, MaskedSum(words, total % PRIME), claimed)

    def _bent(self, tag: SumTag, words: NDArray[np.int64]) -> Sum:
        """Scale or shift a good sum, and say that others contributed."""
        dice = self.dice
        roster = sorted(signed.ready.site_id for signed in tag.readies)
        behind = len(tag.survivors or roster)
        how = dice.choice(
            ("negated", "doubled", "shifted", "claimed", "claimed", "claimed", "said")
        )
        over, under, claimed = 1, 1, tag.survivors
        if how == "negated":
            over = -1
        elif how == "doubled":
            over = 2
        elif how == "shifted":
            words = words + np.eye(1, len(words), dtype=np.int64)[0]
        else:
            fewest = min(self.world.plan.fewest_summed, len(roster))
            low = dice.choice((1, fewest, fewest, fewest))
            claimed = tuple(sorted(dice.sample(roster, dice.randint(low, len(roster)))))
            if how == "claimed":  # what c times as many would have sent
                over, under = len(claimed), behind
        if (words * over % under).any():
            over, under = 1, 1
        number = int(tag.tag, 16) * over * pow(under, -1, PRIME) % PRIME
        blob = (words * over // under).astype(np.uint32).astype("<u4").tobytes()
        return tag.model_copy(update={"tag": f"{number:016x}", "survivors": claimed}), blob

    def restart(self) -> None:
        """Restart somebody."""
        self.world.restart(self.dice.choice(self.sites))

    def chaos(self, slots: Sequence[Slot]) -> None:
        """Do anything to anybody."""
        world, dice = self.world, self.dice
        slot = dice.choice(slots)
        moves: list[Callable[[], object]] = [
            lambda: self.collect(slot, dice.sample(self.sites, dice.randint(1, len(self.sites)))),
            lambda: self.show(slot, dice.choice(PATTERNS)),
            lambda: self.add_up(slot),
            lambda: self.unmask(slot, dice.random() < 0.5),
            self.restart,
        ]
        live = self.live(slot)
        if live:
            moves.append(lambda: self.name_survivors(dice.choice(live), dice.choice(LISTS)))
        altered = self.alter(slot)
        if altered is not None:
            site = dice.choice(sorted(world.honest))
            if slot[0] == "train":
                moves.append(lambda: world.close(site, altered))
            else:
                moves.append(lambda: world.result(site, altered))
        dice.choice(moves)()

    # -- whole schedules ----------------------------------------------------------------------

    def play(self) -> None:
        """Play one study."""
        dice, plan = self.dice, self.world.plan
        wildness = dice.choice((0.0, 0.3, 0.7, 1.0))
        slots: list[Slot] = []
        for round_ in range(plan.training.steps):
            for attempt in range(dice.choice((1, 1, 2, 3))):
                slot: Slot = ("train", round_, attempt)
                slots.append(slot)
                self._attempt(slot, wildness)
                while dice.random() < 0.35 * wildness:
                    self.chaos(slots)
                if self.world.sums[round_] and dice.random() < 0.6:
                    break
            if not self.world.sums[round_]:
                return  # nothing can follow
        self._end(wildness, slots)

    def _attempt(self, slot: Slot, wildness: float) -> None:
        dice = self.dice
        self.collect(slot)
        if dice.random() < 0.3 * wildness:
            self.collect(slot, dice.sample(self.sites, 2))
        is_wild = dice.random() < wildness
        views = self.show(slot, dice.choice(PATTERNS) if is_wild else "same")
        if dice.random() < 0.2 * wildness:
            self.collect(slot)
            self.show(slot, dice.choice(PATTERNS))
        if dice.random() < 0.1 * wildness:
            self.restart()
        if slot[0] == "train" and views and (self.world.plan.is_recoverable or is_wild):
            is_wild = dice.random() < wildness
            for view in views if is_wild else views[:1]:
                self.name_survivors(view, dice.choice(LISTS) if is_wild else "same")
            if dice.random() < 0.1 * wildness:
                self.restart()
            self.unmask(slot, is_mixed=dice.random() < 0.5 * wildness)
            if is_wild and dice.random() < 0.5:
                self.name_survivors(dice.choice(views), dice.choice(LISTS))
                self.unmask(slot, is_mixed=dice.random() < 0.5)
        self.add_up(slot)

    def _end(self, wildness: float, slots: list[Slot]) -> None:
        """Close the training and evaluate, some of the time more than once."""
        world, dice = self.world, self.dice
        last = world.plan.training.steps - 1
        for site in sorted(world.honest):
            if dice.random() < 0.6 * wildness:
                altered = self.alter(slots[-1])
                if altered is not None:
                    world.close(site, altered)
            world.close(site, dice.choice(world.sums[last]), self.missing(site, slots[-1]))
        if len(world.finals) < world.plan.cohort_minimum:
            return
        kinds: list[Slot] = []
        for attempt in range(dice.choice((1, 2, 3))):
            slot: Slot = ("evaluate", 0, attempt)
            kinds.append(slot)
            self._attempt(slot, wildness)
            sums = self.add_up(slot)
            for site in sorted(world.honest):
                if dice.random() < 0.3 * wildness:
                    altered = self.alter(slot)
                    if altered is not None:
                        world.result(site, altered)
                if sums:
                    world.result(site, dice.choice(sums))
            while dice.random() < 0.35 * wildness:
                self.chaos([*slots, *kinds])

    # -- draws --------------------------------------------------------------------------------

    def _views(self, slot: Slot, pattern: str) -> dict[str, View]:
        """Draw a view for every site that gave a READY."""
        dice, pool = self.dice, self.world.pool[slot]
        present = sorted(pool)
        if not present:
            return {}
        newest = {site: pool[site][-1] for site in present}
        whole = self._members(present)
        if pattern == "same":
            view = View.of(slot, (newest[site] for site in whole))
            return dict.fromkeys(whole, view)
        if pattern == "two":  # two cohorts that overlap; who is in both sees one of them
            both = [self._members(present), self._members(present)]
            shown = [View.of(slot, (newest[site] for site in members)) for members in both]
            return {
                site: dice.choice([view for view in shown if site in view.members])
                for site in sorted({*both[0], *both[1]})
            }
        views = {}
        circle = self._shuffled(present)
        width = dice.randint(1, max(1, (len(circle) - 1) // 2))
        half = dice.randint(1, len(circle))
        for place, site in enumerate(circle):
            if pattern == "groups":
                mine = circle[:half] if place < half else circle[half:]
                mine = sorted({*mine, *(s for s in self.world.colluders if s in pool)})
            elif pattern == "ring":
                mine = [circle[(place + d) % len(circle)] for d in range(-width, width + 1)]
            elif pattern == "random":
                mine = self._members(present)
            else:
                mine = whole
            chosen = {each: newest[each] for each in sorted({*mine, site})}
            if pattern == "versions":
                chosen = {each: dice.choice(pool[each]) for each in chosen}
                chosen[site] = newest[site]
            readies = [chosen[each] for each in sorted(chosen)]
            if pattern == "spliced" and dice.random() < 0.6:
                readies = self._spliced(slot, readies, site)
            views[site] = View.of(slot, readies)
        return views

    def _members(self, present: Sequence[str]) -> list[str]:
        """Draw a cohort: mostly a legal one."""
        low = self.world.plan.fewest_summed
        if self.dice.random() < 0.15:
            low = 1
        if len(present) <= low or self.dice.random() < 0.4:
            return list(present)
        return sorted(self.dice.sample(present, self.dice.randint(low, len(present))))

    def _spliced(self, slot: Slot, readies: Sequence[SignedReady], site: str) -> list[SignedReady]:
        """Put something into a view that does not belong there."""
        dice, world = self.dice, self.world
        bent = list(readies)
        place = dice.randrange(len(bent))
        victim = bent[place]
        name = victim.ready.site_id
        how = dice.choice(("replay", "twice", "unsigned", "rekeyed", "dropped"))
        if name in world.colluders:
            how = "resigned"
        others = [
            signed
            for other, pool in world.pool.items()
            if other != slot
            for signed in pool.get(name, ())
        ]
        if how == "replay" and others:
            bent[place] = dice.choice(others)
        elif how == "twice":
            bent.append(dice.choice(readies))
        elif how == "unsigned":
            bent[place] = SignedReady(
                ready=victim.ready.model_copy(update={"model_hash": "ab" * 32}),
                signature=victim.signature,
            )
        elif how == "rekeyed":
            key = bytes(dice.randrange(256) for _ in range(32)).hex()
            bent[place] = SignedReady(
                ready=victim.ready.model_copy(update={"ephemeral_key": key}),
                signature=victim.signature,
            )
        elif how == "resigned":
            changes: tuple[dict[str, object], ...] = (
                {"mask_shares": {}},
                {"group_shares": {}},
                {"self_mask_commitment": "0" * 64},
                {"round": slot[1] + 1},
                {"ephemeral_key": readies[place - 1].ready.ephemeral_key},
                {"ephemeral_key": "00" * 32},
                {"last_sum_hash": "ab" * 32},
            )
            bent[place] = world.resigned(victim.ready, dice.choice(changes))
        elif how == "dropped" and name != site:
            del bent[place]
        return bent

    def _list(self, view: View) -> SurvivorList:
        """Draw survivors of a view, mostly as many as the plan wants."""
        dice, plan = self.dice, self.world.plan
        members = sorted(view.members)
        low = min(len(members), plan.fewest_summed)
        if dice.random() < 0.15:
            low = 1
        chosen = set(dice.sample(members, dice.randint(low, len(members))))
        if dice.random() < 0.7:  # a colluder on the list is one signature more
            chosen |= self.world.colluders.keys() & view.members.keys()
        return self.world.list_of(view, chosen)

    def live(self, slot: Slot) -> list[View]:
        """Views of this attempt that somebody sent an update for."""
        world = self.world
        return [view for t, view in world.views.items() if view.slot == slot and world.uploads[t]]

    def _show_one(self, site: str, view: View) -> None:
        kind, round_, _ = view.slot
        previous = None
        if kind == "train" and round_ > 0:
            if not self.world.sums[round_ - 1]:
                return
            previous = self._handed_on(round_ - 1)
        self.world.cohort(site, view, previous)

    def missing(self, site: str, slot: Slot) -> list[Sum]:
        """Draw the sums a site has not applied, as an honest coordinator sends them in OPEN."""
        if site in self.world.colluders:
            return []
        end = slot[1] if slot[0] == "train" else 0
        needed = range(self.world.honest[site].step, end)
        if not all(self.world.sums[round_] for round_ in needed):
            return []
        return [self._handed_on(round_) for round_ in needed]

    def _handed_on(self, round_: int) -> Sum:
        """Draw what a site is given as the sum of a round: mostly a good one."""
        good = self.world.sums[round_]
        if self.dice.random() < 0.1:
            altered = self.alter(("train", round_, good[0][0].attempt))
            if altered is not None:
                return altered
        return self.dice.choice(good)

    def _shuffled(self, items: Iterable[T]) -> list[T]:
        drawn = list(items)
        self.dice.shuffle(drawn)
        return drawn


def play(seed: int, scenes: Sequence[Scene] = SCENES) -> tuple[Outcome, World]:
    """Play schedule number ``seed``; inside `tests.search.hospital.hospitals` only.

    Raises:
        Violation: a rule was broken.
    """
    scene = scenes[seed % len(scenes)]
    world = World(scene, str(seed))
    Adversary(world, Random(f"cohortium/search/{seed}")).play()
    opened = world.rules.conclude()
    return Outcome(dict(world.counts), len(opened)), world


__all__ = ["LISTS", "PATTERNS", "Adversary", "Outcome", "play"]
