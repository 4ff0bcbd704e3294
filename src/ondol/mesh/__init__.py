"""The service mesh: Istio's traffic kinds translated for one Envoy that listens inside every pod."""
