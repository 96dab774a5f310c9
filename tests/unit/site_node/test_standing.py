"""Does a standing say which sums and READYs fit it, and survive a restart bit for bit?"""

from __future__ import annotations

import numpy as np
import pytest

from schemas.errors import ProtocolError
from schemas.models import initial_parameters, initial_state, state_hash
from site_node.standing import NO_SUM, Standing
from tests.support.factories import make_plan

PLAN, _ = make_plan(3)
DIGEST = PLAN.digest()
SUMS = ["11" * 32, "22" * 32, "33" * 32]


def start() -> Standing:
    return Standing.initial(PLAN, DIGEST, initial_state(PLAN.model, initial_parameters(PLAN.model)))


def after(steps: int) -> Standing:
    standing = start()
    for step in range(steps):
        values = np.arange(PLAN.model.parameters, dtype=np.int64) * (step + 1) * 1000
        standing = standing.summed(values, SUMS[step], PLAN)
    return standing


def code_of(call, *arguments) -> str:
    with pytest.raises(ProtocolError) as refused:
        call(*arguments)
    return refused.value.code.value


def test_the_first_ready_binds_the_initial_model_and_no_sum() -> None:
    assert start().ready_hashes(0) == (state_hash(start().state), NO_SUM)
    assert start().ready_hashes(1) == (state_hash(start().state), NO_SUM)


def test_a_ready_binds_what_was_known_at_the_upload_before_whenever_it_is_signed() -> None:
    """READY of round 2 is the same before the sum of round 1 was applied and after it."""
    early, late = after(1), after(2)
    assert early.ready_hashes(2) == late.ready_hashes(2)
    assert early.ready_hashes(2) == (early.model_hash, SUMS[0])


@pytest.mark.parametrize(("round_", "code"), [(4, "site.behind"), (1, "message.out_of_order")])
def test_no_ready_is_signed_for_other_rounds(round_, code) -> None:
    assert code_of(after(2).ready_hashes, round_) == code


def test_only_the_next_sum_is_expected() -> None:
    standing = after(2)
    assert standing.expects(2, SUMS[2])
    assert not standing.expects(1, SUMS[1])  # seen again, the very same
    assert code_of(standing.expects, 1, SUMS[2]) == "sum.mismatch"
    assert code_of(standing.expects, 3, SUMS[2]) == "site.behind"
    assert code_of(standing.expects, 0, SUMS[0]) == "message.out_of_order"


def test_a_step_moves_every_hash() -> None:
    before, now = after(1), after(2)
    assert now.rounds == before.rounds + 1
    assert now.model_hash == state_hash(now.state) != before.model_hash
    assert (now.earlier_model_hash, now.earlier_sum_hash) == (before.model_hash, before.sum_hash)
    assert now.sum_hash == SUMS[1]


def test_it_survives_a_restart_bit_for_bit() -> None:
    raw = after(3).to_bytes()
    back = Standing.from_bytes(raw)
    assert back.to_bytes() == raw
    assert back.model_hash == state_hash(back.state) == after(3).model_hash
    assert (back.rounds, back.plan_digest) == (3, DIGEST)
