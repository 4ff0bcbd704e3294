"""The definitions of the mesh's kinds: schemas that Kubernetes would accept, and a sentence a field."""

from __future__ import annotations

import json

from ondol.api.schema import rules
from ondol.mesh import definitions, descriptions
from ondol.mesh.kinds import KINDS
from ondol.mesh.model import istio

OTHER_VERSIONS = ("EnvoyFilter", "ProxyConfig", "Telemetry")
"""Which Istio has in one version each."""


def test_the_crds_are_structural_and_hold_examples() -> None:
    """Kubernetes would accept the schemas; they say what the structs say and carry no defaults."""
    for crd in definitions.crds():
        served = {each["name"]: each["storage"] for each in crd["spec"]["versions"] if each["served"]}
        versions = KINDS[crd["spec"]["names"]["kind"]].versions
        assert served == {name: name == versions[0] for name in versions}
        former = () if crd["spec"]["group"].startswith("security") else ("v1alpha3",)
        assert crd["spec"]["names"]["kind"] in OTHER_VERSIONS or versions == ("v1", "v1beta1", *former)
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        assert not list(rules.check(schema, "schema"))
        assert '"default"' not in json.dumps(schema)
    route = definitions.crds()[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    http = route["properties"]["http"]["items"]["properties"]
    attempts = dict(http["retries"]["properties"]["attempts"])
    assert attempts.pop("description")
    assert attempts == {
        "type": "integer",
        "minimum": 0,
        "maximum": 2**31 - 1,
    }
    ignored = http["fault"]["properties"]["abort"]["properties"]["http2Error"]
    assert ignored["x-kubernetes-preserve-unknown-fields"] is True
    assert "Not supported" in ignored["description"]


def test_every_struct_that_is_explained_exists() -> None:
    """Explanations of fields that went are removed with them; those that lack one fail when it is made."""
    for name, fields in descriptions.FIELDS.items():
        struct = getattr(istio, name)
        encoded = dict(zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True))
        ignored = {encoded[name] for name in istio.unsupported(struct)}
        assert set(fields) == set(encoded.values()) - ignored, name
