"""CloudEvents SQL 1.0: expressions over an event's context attributes, as filters use them. Pure.

`parse` reads an expression once, with bounds on its length and depth, and `Expression.evaluate` answers a
value together with the error that stopped it, if one did. No evaluation runs longer than the expression
and the attributes are: the language has neither loops nor names of its own.
"""

from ondol.eventing.cesql.errors import ErrorKind, EvaluationError, ParseError
from ondol.eventing.cesql.expression import Expression, Outcome, parse

__all__ = ("ErrorKind", "EvaluationError", "Expression", "Outcome", "ParseError", "parse")
