"""Does Hypothesis, choosing moves one by one and shrinking what it finds, open too small a sum?

The same world and rules as the schedules, but no plot: any move may follow any other.
"""

from __future__ import annotations

from contextlib import ExitStack
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.search.adversary import LISTS, PATTERNS, Adversary
from tests.search.hospital import hospitals
from tests.search.mutants import MUTANTS
from tests.search.oracle import Violation
from tests.search.scenes import SCENES
from tests.search.world import Slot, World

DICE = st.randoms(use_true_random=False)


class Coordinator(RuleBasedStateMachine):
    """A coordinator that does whatever it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(hospitals())
        self.round = self.attempt = 0
        self.is_over = False

    @initialize(scene=st.sampled_from(SCENES))
    def begin(self, scene) -> None:
        self.world = World(scene, "machine")
        self.adversary = Adversary(self.world, Random(0))

    @property
    def slot(self) -> Slot:
        return ("evaluate" if self.is_over else "train", self.round, self.attempt)

    @property
    def is_live(self) -> bool:
        """Whether somebody sent an update in this attempt."""
        return bool(self.adversary.live(self.slot))

    @property
    def can_recover(self) -> bool:
        return self.is_live and not self.is_over and self.world.plan.is_recoverable

    @rule(dice=DICE, pattern=st.sampled_from(PATTERNS), again=st.booleans())
    def show(self, dice, pattern, again) -> None:
        self.adversary.dice = dice
        if again or not self.world.pool[self.slot]:
            self.adversary.collect(self.slot)
        self.adversary.show(self.slot, pattern)

    @precondition(lambda self: self.can_recover)
    @rule(dice=DICE, how=st.sampled_from(LISTS))
    def name_survivors(self, dice, how) -> None:
        self.adversary.dice = dice
        self.adversary.name_survivors(dice.choice(self.adversary.live(self.slot)), how)

    @precondition(lambda self: self.can_recover and self.world.lists)
    @rule(dice=DICE, is_mixed=st.booleans())
    def unmask(self, dice, is_mixed) -> None:
        self.adversary.dice = dice
        self.adversary.unmask(self.slot, is_mixed)

    @precondition(lambda self: self.is_live)
    @rule()
    def next_attempt(self) -> None:
        self.attempt += 1

    @precondition(lambda self: self.is_live)
    @rule(dice=DICE)
    def hand_on_sums(self, dice) -> None:
        world, self.adversary.dice = self.world, dice
        sums = self.adversary.add_up(self.slot)
        if not sums:
            return
        if self.is_over:
            for site in world.honest:
                world.result(site, dice.choice(sums))
        elif self.round + 1 < world.plan.training.steps:
            self.round, self.attempt = self.round + 1, 0
        else:
            for site in world.honest:
                world.close(site, dice.choice(sums), self.adversary.missing(site, self.slot))
            self.is_over = len(world.finals) >= world.plan.cohort_minimum
            if self.is_over:
                self.round = self.attempt = 0

    @rule(dice=DICE)
    def restart(self, dice) -> None:
        self.adversary.dice = dice
        self.adversary.restart()

    def teardown(self) -> None:
        with self.stack:
            if hasattr(self, "world"):
                self.world.rules.conclude()


SHORT = settings(
    max_examples=30,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,  # other schedules are the long run's business
    suppress_health_check=list(HealthCheck),
)
Coordinator.TestCase.settings = SHORT
TestCoordinator = Coordinator.TestCase


@pytest.mark.parametrize("name", ["self-mask", "share or seed"])
def test_the_machine_sees_a_missing_defence(name) -> None:
    """Moves drawn one by one are enough for the plainer of `tests.search.mutants`."""
    (mutant,) = [each for each in MUTANTS if each.name == name]
    searching = settings(SHORT, max_examples=900, phases=[Phase.generate])
    with mutant.patch(), pytest.raises(Violation) as seen:
        run_state_machine_as_test(Coordinator, settings=searching)
    assert seen.value.rule in mutant.rules
