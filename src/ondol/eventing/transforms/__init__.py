"""EventTransforms: another event of each event, by an expression in JSONata.

Expressions are strangers' programs: they are evaluated in processes of their own, with a limit on time and
memory, and never in that of the data plane.
"""
