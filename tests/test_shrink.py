"""The shrinker on made-up machines: it keeps what the event needs, drops the rest, and knows how sure it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from stress.errors import UsageError
from stress.event import MISSED, seconds_for
from stress.model import Case, Cell, ExecStep, Limits, Pad, Placement, Plan, Provocation, Site, Step
from stress.shrink import ACCEPTED_AFTER, Rules, Trial, shrink
from stress.simpler import NOTHING
from tests.support import image, make_case, regime

FLUSH = Provocation("flush", "", (Step("flush", "back"),), (ExecStep("flush-tail"),))
OWN = Provocation("own", "", (Step("own", "back"),))
IMAGES = tuple(image(f"b8{n}1{n}2{n}3{n}4c3", n) for n in (1, 2, 3, 4))

Rate = Callable[[Plan], float]


def big_plan() -> Plan:
    """As much of everything as a plan can have."""
    case = replace(make_case(*IMAGES, patch=(1, 4)), pads=(Pad(100, b"\xc3", ""), Pad(200, b"\xc3", "")))
    steps = (Step("mfence"), Step("store", "all", "new"), Step("sfence"), Step("publish"))
    discipline = regime(*steps, executor=(ExecStep("lfence"), ExecStep("cpuid", True)))
    placement = Placement("l3", 0, (1, 2, 3))
    cell = Cell(case, Site(64, 2), "split", discipline, (NOTHING, FLUSH, OWN), placement)
    return Plan(cell, Limits(1.0), 1, 12, 20_000)


class Machine:
    """Shows an event at `rate(plan)` a second, by exponential times of a seeded generator."""

    def __init__(self, rate: Rate, seed: int = 1) -> None:
        self.rate, self.random, self.asked = rate, random.Random(seed), 0

    def look(self, plan: Plan, seconds: float) -> Trial:
        self.asked += 1
        rate = self.rate(plan) if plan.cell.regime.patches else 0.0
        when = self.random.expovariate(rate) if rate else float("inf")
        return Trial(int(when < seconds), min(when, seconds), 1000)


def rules(machine: Machine, longest: float = 1e9, strength: Callable[[Cell], int] = lambda _: 0) -> Rules:
    def returns(plan: Plan) -> Case:
        return plan.cell.case

    return Rules(machine.look, strength, returns, longest)


def test_everything_goes_that_the_event_does_not_need() -> None:
    small = shrink(big_plan(), rules(Machine(lambda _: 100.0))).plan
    cell = small.cell
    assert cell.provocations == (NOTHING,)
    assert len(cell.placement.executor_cpus) == 1
    assert len(cell.case.images) == 2
    assert [step.text for step in cell.regime.writer] == ["store all new"]
    assert not cell.regime.executor
    assert not cell.case.pads
    assert cell.case.patch_len == 2
    assert cell.site == Site(0)
    assert cell.store == "whole"
    assert small.pace_log2 == 0


def test_what_the_event_needs_stays() -> None:
    def rate(plan: Plan) -> float:
        cell = plan.cell
        needs = (
            FLUSH in cell.provocations,
            len(cell.placement.executor_cpus) >= 2,
            len(cell.case.images) >= 3,
            Step("mfence") in cell.regime.writer,
            ExecStep("cpuid", True) in cell.regime.executor,
            cell.site.boundary >= 64,
            cell.store == "split",
            plan.pace_log2 >= 6,
            any(pad.offset == 200 for pad in cell.case.pads),
            cell.case.patch_len >= 3,
        )
        return 50.0 if all(needs) else 0.0

    shrunk = shrink(big_plan(), rules(Machine(rate)))
    cell = shrunk.plan.cell
    assert rate(shrunk.plan)
    assert cell.provocations == (FLUSH,)
    assert len(cell.placement.executor_cpus) == 2
    assert len(cell.case.images) == 3
    assert [step.text for step in cell.regime.writer] == ["mfence", "store all new", "publish"]
    assert [step.text for step in cell.regime.executor] == ["cpuid on-change"]
    assert cell.case.patch_len == 3
    assert [pad.offset for pad in cell.case.pads] == [200]
    assert shrunk.plan.pace_log2 == 6
    assert "writer step `mfence`" in shrunk.kept
    assert all(kept.missed <= MISSED * 1.001 for kept in shrunk.kept.values() if not kept.why)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_without_the_event_is_never_kept(seed: int) -> None:
    chance = random.Random(seed)
    # Which of the parts the event needs is drawn.
    wanted = {name for name in ("flush", "images", "split", "pace") if chance.random() < 0.5}

    def rate(plan: Plan) -> float:
        has = {
            "flush": FLUSH in plan.cell.provocations,
            "images": len(plan.cell.case.images) > 2,
            "split": plan.cell.store == "split",
            "pace": plan.pace_log2 > 3,
        }
        return 20.0 if all(has[name] for name in wanted) else 0.0

    shrunk = shrink(big_plan(), rules(Machine(rate, seed)))
    assert rate(shrunk.plan)
    assert (FLUSH in shrunk.plan.cell.provocations) == ("flush" in wanted)
    assert (shrunk.plan.cell.store == "split") == ("split" in wanted)


def test_a_tenth_of_the_rate_is_hardly_ever_missed() -> None:
    """Of 400 shrinkers each has one thing to drop that costs nine tenths of the rate: all but about one drop it."""
    plan = replace(big_plan(), pace_log2=1)
    plan = replace(plan, cell=replace(plan.cell, case=replace(plan.cell.case, pads=())))
    kept = 0
    for seed in range(400):
        machine = Machine(lambda p: 30.0 if p.cell.store == "split" else 3.0, seed)
        kept += shrink(plan, rules(machine)).plan.cell.store == "split"
    # Three searches, each missed with a probability below MISSED: 1.2 of 400 at most are to be expected.
    assert kept <= 400 * ACCEPTED_AFTER * MISSED * 4


def test_what_makes_it_a_thousand_times_rarer_is_kept_and_told() -> None:
    machine = Machine(lambda plan: 30.0 if plan.cell.store == "split" else 0.0003)
    shrunk = shrink(big_plan(), rules(machine))
    assert shrunk.plan.cell.store == "split"
    assert shrunk.kept["store split"].missed <= MISSED * 1.001
    assert any("kept store split: not seen without it in" in line for line in shrunk.lines())


def test_a_step_that_the_promise_hangs_on_is_not_even_tried() -> None:
    def strength(cell: Cell) -> int:
        return 2 if Step("mfence") in cell.regime.writer else 0

    shrunk = shrink(big_plan(), rules(Machine(lambda _: 100.0), strength=strength))
    assert Step("mfence") in shrunk.plan.cell.regime.writer
    assert "less is promised" in shrunk.kept["writer step `mfence`"].why


def test_a_search_that_was_cut_short_says_how_sure_it_is() -> None:
    """A longest search of 0.1 s cannot exclude a tenth of 30 a second."""
    machine = Machine(lambda plan: 30.0 if plan.cell.store == "split" else 0.0)
    kept = shrink(big_plan(), rules(machine, longest=0.5)).kept["store split"]
    assert kept.missed > MISSED


def test_what_cannot_be_run_is_kept_with_the_reason() -> None:
    machine = Machine(lambda _: 100.0)

    def look(plan: Plan, seconds: float) -> Trial:
        if plan.cell.store == "whole":
            return Trial(0, 0.0, 0, "the machine has no such store")
        return machine.look(plan, seconds)

    shrunk = shrink(big_plan(), replace(rules(machine), look=look))
    assert shrunk.plan.cell.store == "split"
    assert shrunk.kept["store split"].why == "the machine has no such store"


def test_a_pad_that_an_image_branches_to_stays() -> None:
    """Without it the image would raise a signal by itself: the same event, and another reason."""
    machine = Machine(lambda _: 100.0)

    def returns(plan: Plan) -> Case | None:
        return plan.cell.case if any(pad.offset == 100 for pad in plan.cell.case.pads) else None

    shrunk = shrink(big_plan(), replace(rules(machine), returns=returns))
    assert [pad.offset for pad in shrunk.plan.cell.case.pads] == [100]


def test_only_what_the_last_plan_needs_is_told_as_kept() -> None:
    machine = Machine(lambda plan: 100.0 if plan.cell.site.boundary in (32, 64) else 0.0)
    shrunk = shrink(big_plan(), rules(machine))
    assert shrunk.plan.cell.site.boundary == 32
    assert not [text for text in shrunk.kept if "x64" in text]


def test_an_event_that_is_too_rare_is_refused() -> None:
    with pytest.raises(UsageError, match="0 of 5 starts"):
        shrink(big_plan(), rules(Machine(lambda _: 0.0), longest=1.0))


def test_the_search_is_as_long_as_the_rate_asks_for() -> None:
    assert seconds_for(100.0) == pytest.approx(0.69, rel=0.01)
    assert seconds_for(0.0) == float("inf")
