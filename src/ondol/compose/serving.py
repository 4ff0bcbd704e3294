"""What the platform's settings say of Serving: it holds where no ConfigMap says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ondol.compose.instance import Instance
from ondol.compose.settings import Settings

if TYPE_CHECKING:
    from ondol.serverless.config.values import ServingConfig


def base(instance: Instance, settings: Settings) -> ServingConfig:
    """The configuration below the ConfigMaps."""
    from ondol.serverless.autoscaler.decide import Scaling  # noqa: PLC0415 - only parts with Serving pay for it
    from ondol.serverless.config.values import Network, ServingConfig  # noqa: PLC0415 - as above
    from ondol.serverless.serving import podspec  # noqa: PLC0415 - as above
    from ondol.serverless.serving.names import Naming  # noqa: PLC0415 - as above

    return ServingConfig(
        scaling=Scaling(window_s=round(settings.scale_to_zero_after_s)),
        network=Network(Naming(settings.domain, instance.ports.ingress, instance.ports.ingress_tls)),
        features=podspec.features(settings.knative_features),
    )
