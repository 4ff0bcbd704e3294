"""Which containers run again after they ended: their own rules and policy, else the pod's."""

from __future__ import annotations

from typing import Any

import pytest
from tests.node.scene import IMAGE, Scene, phase, play, state

from ondol.api.objects import Object
from ondol.node.pods import decide, lifecycle
from ondol.node.pods.model import Attempt, Container, Record
from ondol.node.runtime.port import Exit, Handle
from ondol.node.testing import Program

HANDLE = Handle("id", 1, 2, 3, 4)


def rule(operator: str, *codes: int) -> Object:
    return {"action": "Restart", "exitCodes": {"operator": operator, "values": list(codes)}}


def ended(code: int) -> Container:
    return Container(Attempt(0, "id", "i", "d", HANDLE, 1.0, Exit(code, oom_killed=False, finished_at=2.0)))


@pytest.mark.parametrize("is_init", [False, True])
@pytest.mark.parametrize(
    ("of_pod", "own", "rules", "code", "again"),
    [
        ("Never", None, [], 3, False),
        ("Never", "OnFailure", [], 3, True),
        ("Never", "OnFailure", [], 0, False),
        ("Always", "Never", [], 3, False),
        ("Never", "Never", [rule("In", 3, 4)], 3, True),
        ("Never", "Never", [rule("In", 3, 4)], 5, False),
        ("Never", "Never", [rule("NotIn", 5)], 3, True),
        ("Never", "Never", [rule("NotIn", 5)], 5, False),
        ("Never", "Never", [rule("In", 1), rule("In", 2)], 2, True),
        ("Always", "OnFailure", [rule("In", 1)], 2, True),
    ],
)
def test_who_runs_again(
    *, of_pod: str, own: str | None, rules: list[Object], code: int, again: bool, is_init: bool
) -> None:
    """The first rule that matches, the container's policy, the pod's; init containers alike."""
    spec: Any = {"name": "main", "restartPolicyRules": rules} | ({"restartPolicy": own} if own else {})
    group = "initContainers" if is_init else "containers"
    pod = {"spec": {"restartPolicy": of_pod, group: [spec]}}
    assert lifecycle.should_restart(pod, spec, ended(code)) is again


def test_what_restarts_whatever_the_code() -> None:
    """`Always` of its own restarts an application in a pod that does not, also after a success."""
    spec = {"name": "main", "restartPolicy": "Always"}
    pod = {"spec": {"restartPolicy": "Never", "containers": [spec]}}
    assert lifecycle.should_restart(pod, spec, ended(0))


@pytest.mark.parametrize(("code", "outcome"), [(3, ""), (4, "Failed"), (0, "")])
def test_an_init_container_that_may_not_run_again_fails_the_pod(code: int, outcome: str) -> None:
    """Whatever the policy of the pod."""
    init = {"name": "init", "restartPolicy": "Never", "restartPolicyRules": [rule("In", 3)]}
    pod = {"spec": {"restartPolicy": "Always", "initContainers": [init], "containers": [{"name": "main"}]}}
    record = Record("u", "n", "p", "boot", 0.0, "10.0.0.2", True, {"init": ended(code)})
    assert decide.outcome(pod, record) == outcome


def test_a_pod_is_over_when_no_rule_restarts_it() -> None:
    """It is tried again while one does, and fails with an exit code that none names."""

    async def scene(world: Scene) -> None:
        world.node.runtime.programs[IMAGE] = Program(lifetime_s=1.0, code=42)
        own = {"restartPolicy": "Never", "restartPolicyRules": [rule("In", 42)]}
        await world.pod(container=own, spec={"restartPolicy": "Never"})
        await world.until(lambda pod: state(pod).get("restartCount", 0) == 2)
        assert phase(await world.live()) == "Running"
        world.node.runtime.programs[IMAGE] = Program(lifetime_s=1.0, code=7)
        await world.until(lambda pod: phase(pod) == "Failed")
        assert state(await world.live())["state"]["terminated"]["exitCode"] == 7

    play(scene)
