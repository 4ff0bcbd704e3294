"""`func.yaml`: what is read, refused, warned of, brought up to date and written back."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ondol.base import errors
from ondol.serverless.functions import reading, values, wellknown, writing
from ondol.serverless.functions.model import Env, Function

HEAD = "specVersion: 0.36.0\ncreated: 2023-01-01T10:00:00Z\nname: f\nruntime: python\n"


def function(more: str = "") -> Function:
    return reading.read(HEAD + more).function


def test_scalars_are_what_their_fields_are() -> None:
    """A number in a text field stays as it was written, and a text in a number field is a number."""
    read = function(
        "run: {envs: [{name: PORT, value: 08080}, {name: ON, value: yes}]}\n"
        "deploy: {options: {scale: {min: '1', target: 0.5}}}\n"
    )
    assert [env.value for env in read.run.envs] == ["08080", "yes"]
    scale = read.deploy.options.scale
    assert scale is not None
    assert (scale.min, scale.target) == (1, 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a", "is not a map of fields"),
        ("a: [", "is not valid YAML"),
        ("specVersion: 1.0.0\ncreated: x", "is newer than 0.36.0"),
        ("specVersion: new\ncreated: x", "'new' is no version"),
        ("specVersion: 0.36.0\nruntime: go", "there is no required field `created`"),
        ("specVersion: 0.36.0\ncreated: x\nname: A b", "name: expected `str` matching regex"),
        (HEAD + "invoke: grpc", "invoke: invalid enum value 'grpc'"),
        (HEAD + "deploy: {options: {scale: {min: -1}}}", "deploy.options.scale.min: expected `int` >= 0"),
        (HEAD + "deploy: {options: {scale: {min: 3, max: 2}}}", "scale.max is 2, less than min, 3"),
        (HEAD + "deploy: {options: {resources: {limits: {cpu: x}}}}", "limits.cpu: 'x' is no quantity"),
        (HEAD + "deploy: {labels: [{key: -a}]}", "'-a' is no key of a label"),
        (HEAD + "deploy: {labels: [{key: a, value: '{{ secret:s:k }}'}]}", "write {{ env:NAME }}"),
        (HEAD + "deploy: {subscriptions: [{filters: {a: b}}]}", "required field `source`"),
        (HEAD + "run: {envs: [{name: A}]}", "run.envs[0]: A has no value"),
        (HEAD + "run: {envs: [{name: A, value: b}, {name: A, value: c}]}", "A is there twice"),
        (HEAD + "run: {envs: [{value: b}]}", "then its value is {{ secret:NAME }}"),
        (
            HEAD + "run: {envs: [{name: A, value: '{{ cat:x }}'}]}",
            "write {{ env:NAME }}, {{ secret:NAME:KEY }}",
        ),
        (HEAD + "build: {buildEnvs: [{name: A, value: '{{ secret:s:k }}'}]}", "write {{ env:NAME }}"),
        (HEAD + "run: {volumes: [{path: /x}]}", "must have one of secret, configMap"),
        (HEAD + "run: {volumes: [{secret: s}]}", "run.volumes[0] has no path"),
        (HEAD + "run: {volumes: [{secret: s, path: /x}, {secret: t, path: /x/}]}", "/x/ is there twice"),
        (HEAD + "run: {volumes: [{emptyDir: {medium: Disk}, path: /x}]}", "only Memory, or nothing"),
        (HEAD + "run: {startTimeout: soon}", "'soon' is no duration"),
        (HEAD + "a: &a [*a]", "is nested too deeply"),
        (HEAD + "a: " + "[" * 3000 + "]" * 3000, "is nested too deeply"),
    ],
)
def test_a_broken_file_is_one_line(text: str, words: str) -> None:
    """What is wrong is said with where it stands, and the file is named."""
    with pytest.raises(reading.Malformed) as refused:
        reading.read(text, "here/func.yaml")
    assert words in str(refused.value)
    assert str(refused.value).startswith("here/func.yaml")
    assert "\n" not in str(refused.value)


def test_what_aliases_repeat_is_copied_once() -> None:
    """Each level has ten of the one before: their copies would be 10^40."""
    levels = [f"v{n}: &v{n} [{', '.join([f'*v{n - 1}'] * 10)}]" for n in range(1, 40)]
    text = HEAD + "\n".join(["v0: &v0 [x]", *levels])
    assert len(reading.read(text).warnings) == 40


def test_unknown_fields_and_those_without_effect_are_warned_of() -> None:
    """Nothing is ignored in silence, however deep it stands."""
    read = reading.read(
        HEAD + "colour: red\nrun: {volumes: [{secret: s, path: /x, mode: 1}]}\nbuild: {builder: pack}\n"
    )
    assert [warning.partition(": ")[2] for warning in read.warnings] == [
        "there is no field colour: it is ignored",
        "there is no field run.volumes[0].mode: it is ignored",
        "build.builder has no effect: images are built here, from the folder",
    ]


OLD: dict[str, Any] = {
    "name": "f",
    "runtime": "go",
    "namespace": "ns",
    "builder": "example.com/builder:1",
    "envs": [{"name": "A", "value": "b"}],
    "labels": [{"key": "a", "value": "b"}],
    "options": {"scale": {"min": 1}},
    "volumes": [{"presistentVolumeClaim": {"claimName": "c"}, "path": "/x"}],
    "invocation": {"format": "cloudevent"},
}


@pytest.mark.parametrize("version", [{}, {"version": "0.20.0"}, {"specVersion": "0.25.0", "created": "x"}])
def test_files_of_earlier_versions_are_todays(version: dict[str, str]) -> None:
    """What stood at the top stands in its section, and old spellings are read."""
    read = reading.read(yaml.safe_dump({**OLD, **version}))
    assert read.function.spec_version == wellknown.SPEC_VERSION
    assert read.function.run.envs == (Env(name="A", value="b"),)
    assert read.function.deploy.namespace == "ns"
    assert read.function.deploy.labels[0].key == "a"
    claim = read.function.run.volumes[0].persistent_volume_claim
    assert claim is not None
    assert claim.claim_name == "c"
    assert read.function.invoke == "cloudevent"
    assert not any("no field" in warning for warning in read.warnings)


def test_what_is_written_is_read_again_the_same() -> None:
    """Also times, which stay times, and texts that look like something else."""
    read = function(
        "run: {envs: [{name: A, value: 'yes'}, {name: B, value: '8'}, {value: '{{ configMap:c }}'}]}\n"
        "deploy: {subscriptions: [{source: default, filters: {type: a}}], annotations: {x: '1'}}\n"
    )
    text = writing.text(read)
    assert reading.read(text).function == read
    assert "created: 2023-01-01T10:00:00Z\n" in text
    assert yaml.safe_load(text)["run"]["envs"][0]["value"] == "yes"
    assert text.startswith("# $schema: ")


def test_values_stand_for_others() -> None:
    """Each form is told apart, spaces or not; a missing variable is named."""
    assert values.local("{{ env:HOME }}") == values.local("{{env:HOME}}") == "HOME"
    assert values.keyed("{{ secret:s-1:key.x }}") == values.Reference("secret", "s-1", "key.x")
    assert values.whole("{{ configMap:c }}") == values.Reference("configMap", "c")
    assert values.keyed("{{ configMap:c }}") is None
    assert values.resolved("{{ env:A }}", {"A": "1"}) == "1"
    assert values.resolved("plain", {}) == "plain"
    with pytest.raises(errors.HostError, match="variable A, which is not set"):
        values.resolved("{{ env:A }}", {})
