"""How many replicas a revision should have: windows over samples, a pure decision, and its effects.

Follows the Knative pod autoscaler (knative/serving `pkg/autoscaler/scaling`).
"""
