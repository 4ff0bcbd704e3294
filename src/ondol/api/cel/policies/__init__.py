"""The expressions of admission policies: compiled in one order everywhere, evaluated within one budget.

    expressions  one expression: its environment, the types it may have, what an evaluation spends
    programs     all expressions of a policy, its variables composed
    checking     what is refused of a policy because of its expressions

Match conditions are the same for policies and webhooks.
"""
