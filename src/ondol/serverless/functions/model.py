"""What a `func.yaml` says, as frozen values with the field's own names; what it leaves out is empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

NAME_PATTERN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

Count = Annotated[int, msgspec.Meta(ge=0)]


class Struct(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A part of the file."""


class Env(Struct, frozen=True):
    """A variable; without a name, all keys of a Secret or ConfigMap."""

    name: str | None = None
    value: str | None = None


class Label(Struct, frozen=True):
    key: str | None = None
    value: str | None = None


class Claim(Struct, frozen=True):
    """`persistentVolumeClaim`."""

    claim_name: str | None = None
    read_only: bool = False


class EmptyDir(Struct, frozen=True):
    medium: str = ""
    size_limit: str | None = None


class Volume(Struct, frozen=True):
    """What is mounted at `path`: exactly one of the others."""

    secret: str | None = None
    config_map: str | None = None
    persistent_volume_claim: Claim | None = None
    empty_dir: EmptyDir | None = None
    path: str | None = None


class Git(Struct, frozen=True):
    url: str = ""
    revision: str = ""
    context_dir: str = ""


class Mount(Struct, frozen=True):
    """A folder of this machine in a build."""

    host_path: str = ""
    path: str = ""


class Build(Struct, frozen=True):
    git: Git = Git()
    builder_images: Mapping[str, str] = {}
    buildpacks: tuple[str, ...] = ()
    builder: str = ""
    build_envs: tuple[Env, ...] = ()
    pvc_size: str = ""
    remote_storage_class: str = ""
    base_image: str = ""
    volumes: tuple[Mount, ...] = ()


class Kafka(Struct, frozen=True):
    brokers: str = ""
    topic: str = ""
    consumer_group: str = ""


class Run(Struct, frozen=True):
    volumes: tuple[Volume, ...] = ()
    envs: tuple[Env, ...] = ()
    start_timeout: str = ""
    kafka: Kafka | None = None


class Scale(Struct, frozen=True):
    min: Count | None = None
    max: Count | None = None
    metric: Literal["concurrency", "rps"] | None = None
    target: Annotated[float, msgspec.Meta(ge=0.01)] | None = None
    utilization: Annotated[float, msgspec.Meta(ge=1, le=100)] | None = None


class Requests(Struct, frozen=True):
    cpu: str | None = None
    memory: str | None = None


class Limits(Struct, frozen=True):
    cpu: str | None = None
    memory: str | None = None
    concurrency: Count | None = None


class Resources(Struct, frozen=True):
    requests: Requests | None = None
    limits: Limits | None = None


class Options(Struct, frozen=True):
    scale: Scale | None = None
    resources: Resources | None = None


class HealthEndpoints(Struct, frozen=True):
    liveness: str = ""
    readiness: str = ""


class Subscription(Struct, frozen=True):
    """Events of a broker (`source`) whose attributes are as `filters` say."""

    source: str
    filters: Mapping[str, str] = {}


class Deploy(Struct, frozen=True):
    namespace: str = ""
    image: str = ""
    annotations: Mapping[str, str] = {}
    options: Options = Options()
    labels: tuple[Label, ...] = ()
    health_endpoints: HealthEndpoints = HealthEndpoints()
    service_account_name: str = ""
    image_pull_secret: str = ""
    deployer: Literal["", "knative", "raw", "keda"] = ""
    subscriptions: tuple[Subscription, ...] = ()
    management_disabled: bool = False


class Function(Struct, frozen=True, kw_only=True):
    """A function as its file describes it."""

    spec_version: str
    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)] | Literal[""] = ""
    domain: str = ""
    runtime: str = ""
    registry: str = ""
    registry_insecure: bool = False
    image: str = ""
    namespace: str = ""
    deployer: Literal["", "knative", "raw", "keda"] = ""
    created: str
    invoke: Literal["", "http", "cloudevent"] = ""
    build: Build = Build()
    run: Run = Run()
    deploy: Deploy = Deploy()

    @property
    def takes_events(self) -> bool:
        """Whether requests are CloudEvents to its code."""
        return self.invoke == "cloudevent"
