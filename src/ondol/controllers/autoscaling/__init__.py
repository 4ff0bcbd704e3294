"""HorizontalPodAutoscalers: replicas that follow what the pods use, or what other metrics tell."""

from ondol.controllers.autoscaling.reconciler import add_to

__all__ = ["add_to"]
