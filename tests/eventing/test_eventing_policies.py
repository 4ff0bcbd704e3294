"""EventPolicies: which are about an object, what they allow, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.eventing.eventing_world import NAMESPACE, Scene, condition, not_true, play

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import policies
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.configuration import Features, features
from ondol.eventing.policies import applying, derived
from ondol.eventing.policies.derived import DerivedPolicies
from ondol.sdk import Retry

EVENT = Event({"id": "1", "source": "s", "type": "order.made", "specversion": "1.0"})
SUBJECT = "system:serviceaccount:default:shop"


def policy(subjects: list[str], *, ready: bool = True, **spec: Any) -> Object:
    return {
        "metadata": {"name": "p", "namespace": NAMESPACE},
        "spec": spec,
        "status": {
            "from": subjects,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def with_flags(**flags: str) -> Features:
    return features.of({"data": {name.replace("_", "-"): value for name, value in flags.items()}})


@pytest.mark.parametrize(
    ("listed", "subject", "expected"),
    [
        ([policy([SUBJECT])], SUBJECT, True),
        ([policy([SUBJECT.upper()])], SUBJECT, True),
        ([policy(["system:serviceaccount:default:*"])], SUBJECT, True),
        ([policy(["system:serviceaccount:other:*"])], SUBJECT, False),
        ([policy([])], SUBJECT, False),
        ([policy([SUBJECT], ready=False)], SUBJECT, False),
        ([policy(["nobody"]), policy([SUBJECT])], SUBJECT, True),
        ([policy([SUBJECT], filters=[{"exact": {"type": "order.made"}}])], SUBJECT, True),
        ([policy([SUBJECT], filters=[{"prefix": {"type": "user."}}])], SUBJECT, False),
        (
            [policy([SUBJECT], filters=[{"prefix": {"type": "user."}}]), policy([SUBJECT])],
            SUBJECT,
            True,
        ),
    ],
)
def test_a_policy_allows_its_subjects(listed: list[Object], subject: str, expected: bool) -> None:
    """Of several, one must have the subject and let the event pass; one that is not ready allows nobody."""
    allowed = policies.allows(listed, subject, EVENT, namespace=NAMESPACE, features=Features())
    assert allowed is expected


@pytest.mark.parametrize(
    ("mode", "subject", "expected"),
    [
        ("allow-same-namespace", SUBJECT, True),
        ("allow-same-namespace", "system:serviceaccount:default2:shop", False),
        ("Allow-All", "anybody", True),
        ("deny-all", SUBJECT, False),
        ("no such mode", SUBJECT, True),
    ],
)
def test_the_default_mode_counts_without_policies(mode: str, subject: str, expected: bool) -> None:
    """A mode that is none is as if there were none."""
    flags = with_flags(default_authorization_mode=mode)
    assert policies.allows([], subject, EVENT, namespace=NAMESPACE, features=flags) is expected


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ([], True),
        ([{"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "b"}}], True),
        ([{"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "c"}}], False),
        ([{"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "name": "b"}}], False),
        (
            [
                {
                    "selector": {
                        "apiVersion": "eventing.knative.dev/v1",
                        "kind": "Broker",
                        "matchLabels": {"tier": "one"},
                    }
                }
            ],
            True,
        ),
        (
            [
                {
                    "selector": {
                        "apiVersion": "eventing.knative.dev/v1",
                        "kind": "Broker",
                        "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}],
                    }
                }
            ],
            False,
        ),
    ],
)
def test_a_policy_names_or_selects_what_it_is_about(to: list[Object], expected: bool) -> None:
    """Without `to` it is about everything in its namespace."""
    broker = {"metadata": {"name": "b", "namespace": NAMESPACE, "labels": {"tier": "one"}}}
    assert applying.is_about(policy([], to=to), eventing.BROKER, broker) is expected
    elsewhere = {"metadata": {**broker["metadata"], "namespace": "other"}}
    assert not applying.is_about(policy([], to=to), eventing.BROKER, elsewhere)


async def switch(scene: Scene, **flags: str) -> None:
    await scene.client.patch(
        resources.CONFIG_MAP,
        "config-features",
        eventing.NAMESPACE,
        patch={"data": {name.replace("_", "-"): value for name, value in flags.items()}},
    )


def test_with_tokens_everybody_has_a_name_and_a_policy_finds_it() -> None:
    """Turning the flag on gives addresses an audience and senders an account; off, they are taken away."""

    async def story(scene: Scene) -> None:
        await scene.service("shown")
        await scene.create(eventing.BROKER, "b", {})
        destination = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown"}}
        await scene.create(eventing.TRIGGER, "t", {"broker": "b", "subscriber": destination})
        await scene.settles()
        with pytest.raises(errors.Invalid, match="oidc-authentication feature not enabled"):
            await scene.create(eventing.EVENT_POLICY, "p", {})
        await switch(scene, authentication_oidc="enabled")
        ref = {"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "name": "t"}
        await scene.create(eventing.EVENT_POLICY, "p", {"from": [{"ref": ref}, {"sub": "me"}]})
        await scene.settles()
        trigger = await scene.get(eventing.TRIGGER, "t")
        account = "t-oidc-eventing.knative.dev-trigger"
        assert objects.status(trigger)["auth"] == {"serviceAccountName": account}
        await scene.get(resources.SERVICE_ACCOUNT, account)
        shown = await scene.get(eventing.EVENT_POLICY, "p")
        assert not_true(shown) == {}
        assert objects.status(shown)["from"] == [f"system:serviceaccount:default:{account}", "me"]
        broker = await scene.get(eventing.BROKER, "b")
        assert objects.status(broker)["address"]["audience"] == "eventing.knative.dev/broker/default/b"
        assert [p["name"] for p in objects.status(broker)["policies"]] == ["p"]
        assert not_true(broker) == {}
        await switch(scene, authentication_oidc="disabled")
        await scene.settles()
        await scene.world.assert_gone(resources.SERVICE_ACCOUNT, account, NAMESPACE)
        broker = await scene.get(eventing.BROKER, "b")
        assert "audience" not in objects.status(broker)["address"]
        assert condition(broker, "EventPoliciesReady")[1] == "EventPoliciesNotReady"
        shown = await scene.get(eventing.EVENT_POLICY, "p")
        assert condition(shown, "AuthenticationEnabled")[:2] == ("False", "OIDCAuthenticationDisabled")

    play(story)


def test_what_is_made_of_channels_hands_its_policies_on() -> None:
    """Who may send to the whole may send to its first channel; between its channels its own steps alone."""

    async def story(scene: Scene) -> None:
        await scene.settles()
        await switch(scene, authentication_oidc="enabled")
        await scene.service("shown")
        to = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown"}}
        await scene.create(eventing.CHANNEL, "c", {})
        await scene.create(eventing.SEQUENCE, "s", {"steps": [to, to]})
        await scene.create(eventing.PARALLEL, "p", {"branches": [{"subscriber": to}]})
        await scene.create(eventing.EVENT_POLICY, "all", {"from": [{"sub": "me"}]})
        await scene.settles()
        expected = {
            "all": ("", "me"),
            "all-c": ("c", "me"),
            "s-all": ("s-kn-sequence-0", "me"),
            "s-s-kn-sequence-1": ("s-kn-sequence-1", "s-kn-sequence-0"),
            "p-ep-all": ("p-kn-parallel", "me"),
            "p-ep-p-kn-parallel-0": ("p-kn-parallel-0", "p-kn-parallel-filter-0"),
        }
        assert await allowances(scene) == expected
        for resource, name in ((eventing.SEQUENCE, "s"), (eventing.PARALLEL, "p"), (eventing.CHANNEL, "c")):
            assert not_true(await scene.get(resource, name)) == {}
        await scene.client.delete(eventing.EVENT_POLICY, "s-all", NAMESPACE)
        await scene.settles()
        assert await allowances(scene) == expected
        await scene.client.delete(eventing.EVENT_POLICY, "all", NAMESPACE)
        await scene.settles()
        assert sorted(await allowances(scene)) == ["p-ep-p-kn-parallel-0", "s-s-kn-sequence-1"]
        await switch(scene, authentication_oidc="disabled")
        await scene.settles()
        assert await allowances(scene) == {}

    play(story)


async def allowances(scene: Scene) -> dict[str, tuple[str, str]]:
    """By policy, what it is about and whom it allows."""
    listed = (await scene.client.list(eventing.EVENT_POLICY, NAMESPACE)).items
    shown = {}
    for each in listed:
        target = (objects.spec(each).get("to") or [{"ref": {"name": ""}}])[0]["ref"]["name"]
        (sender,) = objects.spec(each)["from"]
        shown[objects.name(each)] = (target, sender.get("sub") or sender["ref"]["name"])
    return shown


def test_a_policy_waits_for_a_sender_with_an_account() -> None:
    """Who has none keeps it, and all that it is about, from being ready."""

    async def story(scene: Scene) -> None:
        await scene.settles()
        await switch(scene, authentication_oidc="enabled")
        await scene.create(eventing.BROKER, "b", {})
        ref = {"apiVersion": "v1", "kind": "Service", "name": "shown"}
        await scene.create(eventing.EVENT_POLICY, "p", {"from": [{"ref": ref}]})
        shown = await scene.settled(eventing.EVENT_POLICY, "p")
        prefix = "could not resolve subjects from reference: could not resolve auth status: "
        missing = f'{prefix}failed to get object default/shown: services "shown" not found'
        assert condition(shown, "SubjectsResolved") == ("False", "SubjectsNotResolved", missing)
        broker = await scene.get(eventing.BROKER, "b")
        message = "event policies p are not ready"
        assert condition(broker, "EventPoliciesReady") == ("False", "EventPoliciesNotReady", message)
        await scene.service("shown")
        shown = await scene.settled(eventing.EVENT_POLICY, "p")
        assert condition(shown, "SubjectsResolved")[2] == (
            f"{prefix}.status.auth is missing in object default/shown"
        )

    play(story)


@pytest.mark.parametrize("kind", [eventing.CHANNEL, eventing.SEQUENCE, eventing.PARALLEL])
def test_no_policy_is_made_for_an_owner_that_is_gone(kind: Resource) -> None:
    """A cache that lags behind still has it: a policy made for it would be collected, and made again."""

    async def story(scene: Scene) -> None:
        manager = scene.world.manager("late")
        kept = DerivedPolicies(manager, kind)
        await scene.world.start(manager)
        gone = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": "gone", "namespace": NAMESPACE, "uid": "1", "resourceVersion": "1"},
        }
        target = {"apiVersion": "messaging.knative.dev/v1", "kind": "Channel", "metadata": {"name": "c"}}
        with pytest.raises(Retry):
            await kept.keep(gone, [derived.of_policy("p", gone, target, policy([SUBJECT]))])
        assert await scene.world.get(eventing.EVENT_POLICY, "p", NAMESPACE) is None

    play(story)
