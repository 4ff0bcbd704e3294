"""The words of the Kubernetes API: kinds, metadata, patches, schemas and their wire forms.

Pure: no I/O, no time, no randomness. Both sides of the contract (`client`, `apiserver`) build on it.
"""
