"""The table of facts is complete, and the registry and discovery documents follow from it."""

from __future__ import annotations

import pytest

from ondol.api import facts, kinds, kinds_discovery

CRD = {
    "spec": {
        "group": "shop.example.com",
        "scope": "Namespaced",
        "names": {"plural": "orders", "kind": "Order", "shortNames": ["ord"]},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}, "scale": {}}},
            {"name": "v1beta1", "served": True},
            {"name": "v1alpha1", "served": False},
        ],
    }
}


@pytest.mark.parametrize("kind", facts.kinds(), ids=lambda k: f"{k.group}/{k.kind}")
def test_every_type_a_kind_reaches_is_in_the_table(kind: facts.KindFacts) -> None:
    """No reference of any served kind, its list or its subresources leads nowhere."""
    names = [kind.type, *(sub.type for sub in kind.subresources if sub.type)]
    if "list" in kind.verbs:
        assert facts.list_type(kind.type)
        names.append(facts.list_type(kind.type))
    assert facts.reachable(*names)


def test_every_field_has_a_protobuf_number() -> None:
    """Only kind and apiVersion travel outside the message; nothing else may lack a number."""
    roots = [k.type for k in facts.kinds()] + [facts.META + "DeleteOptions", facts.META + "Status"]
    for name, type_facts in facts.reachable(*roots).items():
        paths = [field.path for field in type_facts.fields.values() if field.path]
        assert len(paths) == len(set(paths)), name
        unnumbered = {field for field, field_facts in type_facts.fields.items() if not field_facts.path}
        assert unnumbered <= {"kind", "apiVersion"}, name


def test_every_word_of_the_table_is_known() -> None:
    """A field's type is a scalar, a type of the table, or a list or map of one."""
    for name in facts.reachable(*(k.type for k in facts.kinds())):
        for field in facts.type_named(name).fields.values():
            word = facts.split(field.type)[1]
            assert word in facts.SCALARS or isinstance(facts.type_named(word), facts.Type)


def test_table_knows_what_inlines_and_wraps() -> None:
    """Volume sources are nested in protobuf only, and `extra` values are wrapped in protobuf only."""
    volume = facts.type_named("io.k8s.api.core.v1.Volume")
    assert volume.fields["configMap"].path == (2, 19)
    user = facts.type_named("io.k8s.api.authentication.v1.UserInfo")
    assert user.fields["extra"].wrapped
    assert user.fields["extra"].type == "{}[]string"


def test_an_unknown_type_is_a_key_error() -> None:
    """Neither an unknown package nor an unknown name passes for an empty type."""
    with pytest.raises(KeyError):
        facts.type_named("io.k8s.api.nowhere.v1.Thing")
    with pytest.raises(KeyError):
        facts.type_named("io.k8s.api.core.v1.Thing")


def test_a_kind_is_found_by_path_and_by_document() -> None:
    """Both lookups lead to the same kind."""
    registry = kinds.builtin()
    pod = registry.get("", "v1", "pods")
    assert pod is not None
    assert registry.of("v1", "Pod") is pod
    assert pod.short_names == ("po",)
    assert pod.categories == ("all",)
    assert pod.list_kind == "PodList"
    binding = pod.subresource("binding")
    assert binding is not None
    assert binding.kind == "Binding"
    assert pod.resource.path("default", "a") == "/api/v1/namespaces/default/pods/a"
    assert registry.get("", "v1", "podz") is None


def test_reviews_are_answered_but_not_stored() -> None:
    """A TokenReview has only the verb create."""
    review = kinds.builtin().of("authentication.k8s.io/v1", "TokenReview")
    assert review is not None
    assert not review.stored
    assert review.verbs == ("create",)


def test_custom_kinds_come_and_go() -> None:
    """A CRD's served versions are found while registered, and each registry is its own."""
    registry = kinds.builtin()
    crd_kinds = kinds.of_crd(CRD)
    assert [k.version for k in crd_kinds] == ["v1", "v1beta1"]
    for kind in crd_kinds:
        registry.add(kind)
    order = registry.of("shop.example.com/v1", "Order")
    assert order is not None
    assert order.custom
    assert order.singular == "order"
    assert [s.name for s in order.subresources] == ["scale", "status"]
    assert registry.versions("shop.example.com") == ["v1", "v1beta1"]
    registry.remove(order)
    assert registry.of("shop.example.com/v1", "Order") is None
    assert kinds.builtin().get("shop.example.com", "v1", "orders") is None


@pytest.mark.parametrize(
    ("higher", "lower"),
    [("v2", "v1"), ("v10", "v9"), ("v1", "v2beta1"), ("v1beta1", "v1alpha2"), ("v1alpha1", "foo")],
)
def test_versions_are_ranked_by_stability_then_number(higher: str, lower: str) -> None:
    """The preferred version is the most stable, then the newest."""
    assert kinds.version_priority(higher) > kinds.version_priority(lower)


def test_legacy_discovery_lists_subresources_with_their_kind() -> None:
    """`pods/eviction` is answered by another group's kind, and says so."""
    listed = kinds_discovery.resource_list(kinds.builtin(), "", "v1")
    assert listed is not None
    entries = {entry["name"]: entry for entry in listed["resources"]}
    assert entries["pods/eviction"]["group"] == "policy"
    assert entries["pods"]["singularName"] == "pod"
    assert entries["pods/exec"]["kind"] == "PodExecOptions"
    assert entries["pods/proxy"]["kind"] == "PodProxyOptions"
    assert entries["pods/proxy"]["verbs"] == ["create", "delete", "get", "patch", "update"]
    assert kinds_discovery.resource_list(kinds.builtin(), "", "v2") is None


def test_storage_version_hash_is_the_one_every_server_gives() -> None:
    """Known hash of apps/v1 Deployment."""
    deployment = kinds.builtin().of("apps/v1", "Deployment")
    assert deployment is not None
    assert kinds_discovery.storage_version_hash(deployment) == "8aSe+NMegvE="


def test_group_documents_name_the_preferred_version() -> None:
    """`/apis` has every group but the core one."""
    registry = kinds.builtin()
    groups = {g["name"]: g for g in kinds_discovery.group_list(registry)["groups"]}
    assert groups["apps"]["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    assert "" not in groups
    assert kinds_discovery.group(registry, "nowhere") is None
    assert kinds_discovery.api_versions(registry, "h:1")["versions"] == ["v1"]


def test_aggregated_discovery_tells_the_same_as_the_lists() -> None:
    """Every resource and verb of the legacy documents is in the aggregated one."""
    registry = kinds.builtin()
    for kind in kinds.of_crd(CRD):
        registry.add(kind)
    items = [*_items(registry, core=True), *_items(registry, core=False)]
    seen = {(g, v, r["resource"]): r["verbs"] for g, v, r in items}
    assert seen == {(k.group, k.version, k.plural): list(k.verbs) for k in registry}


def _items(registry: kinds.Registry, *, core: bool) -> list[tuple[str, str, dict[str, object]]]:
    document = kinds_discovery.aggregated(registry, core=core)
    return [
        (item["metadata"]["name"], version["version"], resource)
        for item in document["items"]
        for version in item["versions"]
        for resource in version["resources"]
    ]
