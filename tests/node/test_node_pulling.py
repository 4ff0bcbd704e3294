"""Images brought to the node: pull policies, one pull for several pods, and the kubelet's words."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.node.test_node_images import file, packed

from ondol.base.signal import Signal
from ondol.node.images import images, pulling
from ondol.node.images import store as store_words

Layout = Callable[[str], Any]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: devices, owners and mounts")


@pytest.mark.anyio
@needs_root
async def test_a_source_brings_what_is_missing(layout: Layout, tmp_path: Path) -> None:
    """With a source a missing image is pulled, and Always asks it anew for one that came from there."""
    source = Source(layout)
    store = images.Images(tmp_path, source)
    heard: list[tuple[str, str]] = []
    asker = pulling.Asker(lambda _type, reason, message: heard.append((reason, message)))
    assert (await store.ensure("a:1", "IfNotPresent", asker)).pulled
    assert heard == [("Pulling", 'Pulling image "a:1"')]
    assert (await store.ensure("a:1", "IfNotPresent", asker)).pulled is None
    assert (await store.ensure("a:1", "Always", asker)).pulled
    assert source.references == ["a:1", "a:1"]
    layout("images").image("here:1", [packed(file("a"))])
    assert (await store.ensure("here:1", "Always", asker)).pulled is None


class Source:
    """Brings every image, or fails as it is told to."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.references: list[str] = []
        self.removed: list[str] = []
        self.failure: Exception | None = None
        self.gate = anyio.Event()
        self.gate.set()
        self.asked = Signal()

    async def remove(self, names: Sequence[str]) -> None:
        self.removed += names

    async def pull(self, reference: str, secrets: Sequence[pulling.PullSecret]) -> int:
        assert not secrets
        self.references.append(reference)
        self.asked.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        writer = self._layout("images")
        writer.image(reference, [packed(file("a"))])
        index = json.loads((writer.root / "index.json").read_bytes())
        for entry in index["manifests"]:
            if entry["annotations"][store_words.REF_NAME] == reference:
                entry["annotations"][store_words.PULLED] = "true"
        (writer.root / "index.json").write_text(json.dumps(index))
        return 42


@pytest.mark.anyio
@needs_root
async def test_a_pulled_image_is_used_while_its_registry_is_away(layout: Layout, tmp_path: Path) -> None:
    """Always cannot ask then, and says so; a registry that answers otherwise is believed."""
    source = Source(layout)
    store = images.Images(tmp_path, source)
    heard: list[tuple[str, str]] = []
    asker = pulling.Asker(lambda _type, reason, message: heard.append((reason, message)))
    await store.ensure("a:1", "Always")
    source.failure = pulling.ImageUnavailable(pulling.UNAVAILABLE, "no network")
    assert (await store.ensure("a:1", "Always", asker)).pulled is None
    assert heard[-1] == ("Failed", 'Failed to pull image "a:1": no network; the one that is here is used')
    source.failure = pulling.ImageUnavailable("ErrImagePull", "denied")
    with pytest.raises(pulling.ImageUnavailable, match="denied"):
        await store.ensure("a:1", "Always", asker)


@pytest.mark.anyio
@needs_root
async def test_pods_that_want_the_same_image_wait_for_one_pull(layout: Layout, tmp_path: Path) -> None:
    """It is brought once; one of a pod that ends meanwhile is left, and another pod's goes on."""
    source = Source(layout)
    store = images.Images(tmp_path, source)
    source.gate = anyio.Event()
    unpacked: list[images.Unpacked] = []
    is_over = anyio.Event()

    async def leave() -> None:
        with pytest.raises(pulling.NobodyWaits):
            await store.ensure("a:1", "IfNotPresent", pulling.Asker(gone=is_over.wait))

    waiting: list[str] = []

    def event(_type: str, reason: str, _message: str) -> None:
        waiting.append(reason)
        source.asked.set()

    async def stay() -> None:
        unpacked.append(await store.ensure("a:1", "IfNotPresent", pulling.Asker(event)))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave)
            while not source.references:
                await source.asked.next.wait()
            for _ in range(3):
                tasks.start_soon(stay)
            while len(waiting) < 3:
                await source.asked.next.wait()
            is_over.set()
            while len(source.references) < 2:
                await source.asked.next.wait()
            source.gate.set()
    assert source.references == ["a:1", "a:1"], "the first was left in the middle"
    assert [bool(each.pulled) for each in unpacked] == [True] * 3


@pytest.mark.anyio
async def test_names_of_this_machine_are_asked_of_nobody(layout: Layout, tmp_path: Path) -> None:
    """And a bare name that Docker Hub does not have either is told with what is here."""
    source = Source(layout)
    source.failure = pulling.ImageUnavailable(pulling.UNAVAILABLE, "no network")
    layout("images").image("ondol.local/shop:1", [packed(file("a"))])
    store = images.Images(tmp_path, source)
    with pytest.raises(pulling.ImageUnavailable, match="build or import it first"):
        await store.ensure("ondol.local/a:1", "Always")
    assert source.references == []
    with pytest.raises(
        pulling.ImageUnavailable, match=r"has ondol.local/shop:1.*Docker Hub: no network"
    ) as raised:
        await store.ensure("shop:2", "IfNotPresent")
    assert raised.value.reason == pulling.UNAVAILABLE


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0s"), (0.0531, "53ms"), (1.5, "1.5s"), (60, "1m0s"), (3661.25, "1h1m1.25s")]
)
def test_a_pull_is_told_in_the_kubelets_words(seconds: float, text: str) -> None:
    """With how long it took, as Go writes it, and the size."""
    pulled = pulling.Pulled(7, seconds, seconds)
    assert pulling.pulled_message("a", pulled) == (
        f'Successfully pulled image "a" in {text} ({text} including waiting). Image size: 7 bytes.'
    )
