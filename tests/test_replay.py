"""A record's plan, made again from the record alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stress.errors import HostError, UsageError
from stress.matrix import Request, build
from stress.model import Plan
from stress.plan import as_dict, describe
from stress.replay import fit, plan_of
from stress.topology import Cpu, Topology
from tests.support import here


def record_of(plan: Plan) -> dict[str, Any]:
    return {**describe(plan.cell), "plan": as_dict(plan), "reason": ""}


@pytest.mark.parametrize(
    "request_",
    [
        Request(seconds=0.1, provoke=("auto", "none"), patches=1000, until_first_event=True, seed=3),
        Request(cases=("mov-imm*",), sites=("all",), stores=("all",), regimes=("none", "alias"), seconds=1.0),
    ],
    ids=["regimes", "sites"],
)
def test_every_plan_is_made_again_exactly(request_: Request) -> None:
    plans = build(request_, here()).plans
    assert len(plans) > 100
    for plan in plans[:: max(1, len(plans) // 2000)]:
        again = plan_of(record_of(plan))
        assert as_dict(again) == as_dict(plan)
        assert describe(again.cell) == describe(plan.cell)


def some_plan(**more: Any) -> Plan:
    return build(Request(cases=("mov-imm32",), regimes=("none",), seconds=1.0, **more), here()).plans[0]


def test_a_record_of_another_version_is_refused() -> None:
    record = record_of(some_plan())
    with pytest.raises(UsageError, match="another version"):
        plan_of({**record, "plan": {**record["plan"], "novelty": 1}})
    with pytest.raises(UsageError, match="another version"):
        plan_of({**record, "plan": {k: v for k, v in record["plan"].items() if k != "seed"}})


def test_a_skipped_cell_has_no_plan() -> None:
    with pytest.raises(UsageError, match="was skipped"):
        plan_of({**record_of(some_plan()), "plan": None, "reason": "no room"})


def machine(packages: int, each: int) -> Topology:
    """So many packages of so many cores, each package behind one L3."""
    cpus = []
    for n in range(packages * each):
        l3 = frozenset(range(n // each * each, n // each * each + each))
        cpus.append(Cpu(n, n // each, 0, -1, n, frozenset({n}), frozenset({n}), l3, ""))
    return Topology(tuple(cpus))


def placed(relation: str, *cpus: int) -> Plan:
    plan = some_plan()
    where = replace(plan.cell.placement, relation=relation, writer_cpu=cpus[0], executor_cpus=cpus[1:])
    return replace(plan, cell=replace(plan.cell, placement=where))


def test_its_own_cpus_are_taken_where_they_are_here() -> None:
    plan = placed("l3", 0, 1)
    assert fit(plan, machine(1, 2)) is plan


def test_the_same_relation_is_taken_elsewhere() -> None:
    where = fit(placed("cross", 3, 70), machine(2, 4)).cell.placement
    assert where.relation == "cross"
    assert where.writer_cpu // 4 != where.executor_cpus[0] // 4


def test_the_nearest_relation_is_taken_where_that_one_is_not_here() -> None:
    assert fit(placed("cross", 3, 70), machine(1, 4)).cell.placement.relation == "l3"


def test_fewer_executors_are_taken_where_there_are_fewer_cpus() -> None:
    assert len(fit(placed("l3", 10, 11, 12, 13), machine(1, 3)).cell.placement.executor_cpus) == 2


def test_one_cpu_is_not_enough() -> None:
    with pytest.raises(HostError, match="one CPU"):
        fit(placed("l3", 10, 11), machine(1, 1))
