"""What the ConfigMaps in `knative-eventing` say: flags, and the defaults of brokers and channels."""

from ondol.eventing.configuration.features import Features

__all__ = ["Features"]
