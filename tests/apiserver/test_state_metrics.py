"""The families of kube-state-metrics: from objects to samples, and the page."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tests.apiserver.state_examples import EXAMPLES, RUNNING, T0_S, named

from ondol import apiserver, store
from ondol.api.objects import Object
from ondol.apiserver.state_metrics import allowing, amounts, pages, subjects
from ondol.apiserver.state_metrics.families import Subject, amount

PATH: Final = "/ondol/metrics/state"
SUBJECTS: Final = {subject.resource.plural: subject for subject in subjects.ALL}


def page(subject: Subject, *listed: Object, labels: str = "", annotations: str = "") -> str:
    section = pages.Section(subject, allowing.parse(labels), allowing.parse(annotations))
    for obj in listed:
        section.add(obj)
    return b"".join(section.pieces()).decode()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """By name and labels; labels that are empty are not there, as for Prometheus."""
    rows = [
        ((each.name, tuple(sorted((k, v) for k, v in each.labels.items() if v))), each.value)
        for family in text_string_to_metric_families(text)
        for each in family.samples
    ]
    assert len(dict(rows)) == len(rows), "a series stands there twice"
    return dict(rows)


def has(text: str, expected: str) -> bool:
    """Whether a line of the text is this one, whatever the order of its labels, empty ones aside."""
    return samples(f"{expected}\n").items() <= samples(text).items()


_IDENTITIES: Final = {
    "pods": 'namespace="ns",pod="x",uid="u1"',
    "services": 'namespace="ns",service="x",uid="u1"',
    "jobs": 'namespace="ns",job_name="x"',
    "certificatesigningrequests": 'certificatesigningrequest="x",signer_name="s"',
}
_POD: Final = _IDENTITIES["pods"]


def whole(line: str, subject: Subject) -> str:
    """A line of the examples as it stands on the page."""
    head, _, value = line.rpartition(" ")
    suffix, _, labels = head.rstrip("}").partition("{")
    name = "_".join(filter(None, ("kube", subject.noun, suffix)))
    namespace = 'namespace="ns",' if subject.resource.namespaced else ""
    identity = _IDENTITIES.get(subject.resource.plural, f'{namespace}{subject.noun}="x"')
    own = ",".join(filter(None, (identity, labels)))
    return f"{name}{{{own}}} {T0_S if value == 'T0' else value}"


@pytest.mark.parametrize("case", EXAMPLES)
def test_each_kind_is_told_in_its_families(case: str) -> None:
    """Names, labels and units are those of kube-state-metrics."""
    plural, obj, lines = EXAMPLES[case]
    text = page(SUBJECTS[plural], obj)
    missing = [line for line in lines if not has(text, whole(line, SUBJECTS[plural]))]
    assert not missing, text


def test_every_family_is_named_once_and_after_its_kind() -> None:
    """One name has one meaning on the whole page; what only grows is called so."""
    families = [(subject, family) for subject in subjects.ALL for family in subject.families]
    names = [family.name for _, family in families]
    assert len(set(names)) == len(names)
    for subject, family in families:
        assert family.name.startswith(f"kube_{subject.noun}")
        assert family.name.endswith("_total") == (family.type == "counter")


# Labels and annotations


def test_labels_are_told_only_where_they_are_listed() -> None:
    """Nothing of them by default; what is listed is under names that Prometheus takes."""
    pod = named("Pod", metadata={"labels": {"app.kubernetes.io/name": "web", "tier": "x"}})
    assert "kube_pod_labels" not in page(SUBJECTS["pods"], pod)
    listed = page(SUBJECTS["pods"], pod, labels="nodes=[*],pods=[app.kubernetes.io/*]")
    assert has(listed, f'kube_pod_labels{{{_POD},label_app_kubernetes_io_name="web"}} 1')
    assert has(page(SUBJECTS["pods"], pod, labels="*=[tier]"), f'kube_pod_labels{{{_POD},label_tier="x"}} 1')


def test_annotations_of_any_content_can_be_read_back() -> None:
    """Quotes, backslashes and line ends are escaped."""
    text = page(SUBJECTS["pods"], RUNNING, annotations="pods=[*]")
    annotated = [labels for (name, labels), _ in samples(text).items() if name == "kube_pod_annotations"]
    assert dict(annotated[0])["annotation_a_b"] == 'say "hi"\\\n'


def test_keys_that_become_one_name_are_told_apart() -> None:
    """By the suffixes that kube-state-metrics gives."""
    pairs = {"a.b": "1", "a/b": "2", "aB": "3", "c": "4"}
    assert dict(allowing.prometheus_labels("label", pairs)) == {
        "label_a_b_conflict1": "1",
        "label_a_b_conflict2": "2",
        "label_a_b_conflict3": "3",
        "label_c": "4",
    }


@pytest.mark.parametrize("text", ["pods", "pods=app", "pods=[a*b*]", "pods=[app]nodes=[*]", "Pods=[a]"])
def test_what_is_no_list_of_keys_is_refused(text: str) -> None:
    """Before anything is told by it."""
    with pytest.raises(ValueError, match="key"):
        allowing.parse(text)


def test_a_star_counts_as_the_first_key_only() -> None:
    """As there: a list that begins with another key is meant to be short."""
    pairs = {"a": "1", "b": "2"}
    assert allowing.chosen(("*",), pairs) == pairs
    assert allowing.chosen(("a", "*"), pairs) == {"a": "1"}


# Amounts


def test_amounts_are_in_units_and_thousandths_are_rounded_up() -> None:
    """Whole amounts stay exact, however large."""
    assert [amount(text) for text in ("250m", "1", "1n", "8Ei", "1.5")] == [0.25, 1, 0.001, 2**63, 1.5]
    units = dict(amounts.samples({"cpu": "1", "pods": "5", "kubernetes.io/x": "1", "requests.cpu": "1"}))
    assert [dict(labels)["resource"] for labels in units] == ["cpu"]


# What holds of any object

_TEXTS = st.text(max_size=4)
_LEAVES = st.none() | st.booleans() | st.integers(0, 9) | _TEXTS
_KEYS = st.text("ab./-B", min_size=1, max_size=4)


@given(st.dictionaries(_KEYS, _TEXTS, max_size=6), st.lists(_TEXTS, max_size=3))
def test_a_page_of_any_texts_parses_to_them(labels: dict[str, str], names: list[str]) -> None:
    """No series is there twice, and every label comes back as it was."""
    pods = [
        named("Pod", {"containers": []}, metadata={"name": name, "uid": str(number), "labels": labels})
        for number, name in enumerate(names)
    ]
    series = samples(page(SUBJECTS["pods"], *pods, labels="pods=[*]"))
    rows = [dict(row) for name, row in series if name == "kube_pod_labels"]
    assert [row.get("pod", "") for row in rows] == names
    for row in rows:
        values = [value for key, value in row.items() if key.startswith("label_")]
        assert sorted(values) == sorted(value for value in labels.values() if value)


@pytest.mark.parametrize("plural", SUBJECTS)
def test_objects_with_nothing_in_them_break_no_page(plural: str) -> None:
    """What defaults and controllers have not written yet is missing, not wrong."""
    samples(
        page(
            SUBJECTS[plural],
            {"metadata": {"name": "x"}},
            named("X", metadata={"name": "z"}),
            {"metadata": {"name": "y"}, "spec": None},
        )
    )


# The page


async def test_the_page_is_for_who_may_read_metrics(start: Callable[..., Any]) -> None:
    """It tells of everything in the cluster, so it needs the right to its path."""
    log = store.open_memory()
    async with start(log) as api:
        await api.post("/api/v1/namespaces", {"metadata": {"name": "shop"}})
        answer = await api.as_("prometheus", "system:monitoring").get(PATH)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert has(answer.body.decode(), 'kube_namespace_status_phase{namespace="shop",phase="Active"} 1')
        assert (await api.as_("bob").get(PATH)).status == 403
        assert (await api("POST", PATH)).status == 405
        only = (await api.get(f"{PATH}?resources=namespaces")).body.decode()
        assert {name.split("_")[1] for name, _ in samples(only)} == {"namespace"}
        assert (await api.get(f"{PATH}?resources=moons")).status == 400
    log.close()


async def test_many_objects_make_one_page(start: Callable[..., Any]) -> None:
    """Each family stands once, though its objects are read some at a time; the setting adds labels."""
    log = store.open_memory()
    config = apiserver.ApiConfig(metric_labels=allowing.parse("configmaps=[n]"))
    names = [f"c{number}" for number in range(300)]
    random.Random(1).shuffle(names)
    async with start(log, config) as api:
        for name in names:
            await api.post(
                "/api/v1/namespaces/default/configmaps",
                {"metadata": {"name": name, "labels": {"n": name}}, "data": {"x": "y" * 2000}},
            )
        text = (await api.get(PATH)).body.decode()
    log.close()
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(set(heads)) == len(heads)
    labelled = {
        dict(row)["label_n"]
        for name, row in samples(text)
        if name == "kube_configmap_labels"
        if dict(row).get("label_n")
    }
    assert labelled == set(names)
