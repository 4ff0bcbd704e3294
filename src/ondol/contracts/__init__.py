"""What features promise each other in API objects: names, labels, conditions, statistics.

Features are strangers: none imports another. Where one writes what another reads, both take the word for
it from here, so that it is written once. Constants and small pure functions only; no logic of a feature.
`tests/contracts` holds both ends of each promise against each other.
"""
