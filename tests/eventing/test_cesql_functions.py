"""Functions, patterns and attributes of events in CESQL.

The cases of the specification's own test kit (CESQL 1.0.0), a row for each: expression, value, kind of
error, attributes of the event.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from ondol.eventing import cesql

Row = tuple[Any, ...]
EVENT: Final = {"specversion": "1.0", "id": "i", "source": "localhost.localdomain", "type": "t"}
DISJUNCTIVE: Final = (
    "(id = 'myId' AND type LIKE '%.success')"
    " OR (id = 'notmyId' AND source LIKE 'http://%' AND type LIKE '%.warning')"
)
CONJUNCTIVE: Final = (
    "(id = 'myId' OR type LIKE '%.success')"
    " AND (id = 'notmyId' OR source LIKE 'https://%' OR type LIKE '%.warning')"
)
CONJUNCTIVE_WITH_EXTENSION: Final = CONJUNCTIVE + " AND (myext = 'customext')"

CASTING_FUNCTIONS: Final[tuple[Row, ...]] = (
    ("INT('1')", 1),
    ("INT('-1')", -1),
    ("INT(1)", 1),
    ("INT(-1)", -1),
    ("INT(TRUE)", 1),
    ("INT(FALSE)", 0),
    ("INT('ABC')", 0, "cast"),
    ("BOOL('TRUE')", True),
    ('BOOL("false")', False),
    ("BOOL(TRUE)", True),
    ("BOOL(FALSE)", False),
    ("BOOL('ABC')", False, "cast"),
    ("BOOL(1)", True),
    ("BOOL(0)", False),
    ("BOOL(100)", True),
    ("BOOL(-50)", True),
    ("STRING(TRUE)", "true"),
    ("STRING(FALSE)", "false"),
    ("STRING(1)", "1"),
    ("STRING(-1)", "-1"),
    ('STRING("abc")', "abc"),
)

INTEGER_BUILTIN_FUNCTIONS: Final[tuple[Row, ...]] = (
    ("ABS(10)", 10),
    ("ABS(-10)", 10),
    ("ABS(0)", 0),
    ("ABS(-2147483648)", 2147483647, "math"),
)

STRING_BUILTIN_FUNCTIONS: Final[tuple[Row, ...]] = (
    ("LENGTH('abc')", 3),
    ("LENGTH('')", 0),
    ("LENGTH('2')", 1),
    ("LENGTH(TRUE)", 4),
    ("CONCAT('a', 'b', 'c')", "abc"),
    ("CONCAT()", ""),
    ("CONCAT('a')", "a"),
    ("CONCAT_WS(',', 'a', 'b', 'c')", "a,b,c"),
    ("CONCAT_WS(',')", ""),
    ("CONCAT_WS(',', 'a')", "a"),
    ("CONCAT_WS()", False, "missingFunction"),
    ("LOWER('ABC')", "abc"),
    ("LOWER('AbC')", "abc"),
    ("LOWER('abc')", "abc"),
    ("UPPER('ABC')", "ABC"),
    ("UPPER('AbC')", "ABC"),
    ("UPPER('abc')", "ABC"),
    ("TRIM('   a b c   ')", "a b c"),
    ("TRIM('   a b c')", "a b c"),
    ("TRIM('a b c   ')", "a b c"),
    ("TRIM('a b c')", "a b c"),
    ("LEFT('abc', 2)", "ab"),
    ("LEFT('abc', 10)", "abc"),
    ("LEFT('', 0)", ""),
    ("LEFT('abc', -2)", "abc", "functionEvaluation"),
    ("RIGHT('abc', 2)", "bc"),
    ("RIGHT('abc', 10)", "abc"),
    ("RIGHT('', 0)", ""),
    ("RIGHT('abc', -2)", "abc", "functionEvaluation"),
    ("SUBSTRING('abcdef', 1)", "abcdef"),
    ("SUBSTRING('abcdef', 2)", "bcdef"),
    ("SUBSTRING('Quadratically', 5)", "ratically"),
    ("SUBSTRING('Sakila', -3)", "ila"),
    ("SUBSTRING('abcdef', 1, 6)", "abcdef"),
    ("SUBSTRING('abcdef', 2, 4)", "bcde"),
    ("SUBSTRING('Sakila', -5, 3)", "aki"),
    ("SUBSTRING('Quadratically', 0)", ""),
    ("SUBSTRING('Quadratically', 0, 1)", ""),
    ("SUBSTRING('abcdef', 10)", "", "functionEvaluation"),
    ("SUBSTRING('abcdef', -10)", "", "functionEvaluation"),
    ("SUBSTRING('abcdef', 10, 10)", "", "functionEvaluation"),
    ("SUBSTRING('abcdef', -10, 10)", "", "functionEvaluation"),
)

LIKE_EXPRESSION: Final[tuple[Row, ...]] = (
    ("'abc' LIKE 'abc'", True),
    ("'ab\\c' LIKE 'ab\\c'", True),
    ("'abc' NOT LIKE 'abc'", False),
    ("'abc' LIKE 'a%b%c'", True),
    ("'azbc' LIKE 'a%b%c'", True),
    ("'azzzbzzzc' LIKE 'a%b%c'", True),
    ("'a%b%c' LIKE 'a%b%c'", True),
    ("'ac' LIKE 'abc'", False),
    ("'' LIKE 'abc'", False),
    ("'.ab.cde.' LIKE '.%.%.'", True),
    ("'ab.cde' LIKE '.%.%.'", False),
    ("'abc' LIKE 'a_b_c'", False),
    ("'a_b_c' LIKE 'a_b_c'", True),
    ("'abzc' LIKE 'a_b_c'", False),
    ("'azbc' LIKE 'a_b_c'", False),
    ("'azbzc' LIKE 'a_b_c'", True),
    ("'.a.b.' LIKE '._._.'", True),
    ("'abcd.' LIKE '._._.'", False),
    ("'a_b_c' LIKE 'a\\_b\\_c'", True),
    ("'a_b_c' NOT LIKE 'a\\_b\\_c'", False),
    ("'azbzc' LIKE 'a\\_b\\_c'", False),
    ("'abc' LIKE 'a\\_b\\_c'", False),
    ("'abc' LIKE 'a\\%b\\%c'", False),
    ("'a%b%c' LIKE 'a\\%b\\%c'", True),
    ("'azbzc' LIKE 'a\\%b\\%c'", False),
    ("myext LIKE 'abc%123\\%456\\_d_f'", True, "", {"myext": "abc123123%456_dzf"}),
    ("myext NOT LIKE 'abc%123\\%456\\_d_f'", False, "", {"myext": "abc123123%456_dzf"}),
    ("234 LIKE '23_'", True),
    ("2344 LIKE '23%'", True),
    ("2344 LIKE '23_'", False),
    ("TRUE LIKE 'tr%'", True),
    ("TRUE LIKE '%ue'", True),
    ("FALSE LIKE 'tr%'", False),
    ("FALSE LIKE 'fal%'", True),
    ("missing LIKE 'missing'", False, "missingAttribute"),
)

CONTEXT_ATTRIBUTES_ACCESS: Final[tuple[Row, ...]] = (
    ("id", "myId", "", {"id": "myId"}),
    ("subject", "mySubject", "", {"subject": "mySubject"}),
    ("subject", False, "missingAttribute", {"source": "localhost.localdomain"}),
    ("mybool", True, "", {"mybool": True}),
    ("myint", 10, "", {"myint": 10}),
    ("myext", "my extension", "", {"myext": "my extension"}),
    ("source", "http://localhost/source", "", {"source": "http://localhost/source"}),
    (
        "time",
        "2018-04-26T14:48:09+02:00",
        "",
        {"source": "http://localhost/source", "time": "2018-04-26T14:48:09+02:00"},
    ),
)

SPEC_EXAMPLES: Final[tuple[Row, ...]] = (
    ("int(hop) < int(ttl) and int(hop) < 1000", True, "", {"hop": "5", "ttl": "10"}),
    ("INT(hop) < INT(ttl) AND INT(hop) < 1000", True, "", {"hop": "5", "ttl": "10"}),
    ("hop < ttl", True, "", {"hop": "5", "ttl": "10"}),
    ("sequence = 5", True, "", {"sequence": "5"}),
    ("sequence = 5", False, "", {"sequence": "6"}),
    (
        "firstname = 'Francesco' OR subject = 'Francesco'",
        True,
        "",
        {"subject": "Francesco", "firstname": "Doug"},
    ),
    (
        "firstname = 'Francesco' OR subject = 'Francesco'",
        True,
        "",
        {"firstname": "Francesco", "subject": "Doug"},
    ),
    (
        "(firstname = 'Francesco' AND lastname = 'Guardiani') OR subject = 'Francesco Guardiani'",
        True,
        "",
        {"subject": "Doug", "firstname": "Francesco", "lastname": "Guardiani"},
    ),
    (
        "(firstname = 'Francesco' AND lastname = 'Guardiani') OR subject = 'Francesco Guardiani'",
        True,
        "",
        {"subject": "Francesco Guardiani", "firstname": "Doug", "lastname": "Davis"},
    ),
    ("EXISTS subject", True, "", {"subject": "Francesco Guardiani"}),
    ('true AND (missing = "")', False, "missingAttribute"),
    ("missing * 5", 0, "missingAttribute"),
    ("1 / missing", 0, "missingAttribute"),
)

SUBSCRIPTIONS_API_RECREATIONS: Final[tuple[Row, ...]] = (
    ("source LIKE 'https://%'", True, "", {"source": "https://example.com"}),
    ("source LIKE 'https://%'", False, "", {"source": "http://example.com"}),
    ("myext LIKE 'custom%'", True, "", {"myext": "customext"}),
    ("myext LIKE 'custom%'", False, "missingAttribute"),
    ("type like '%.error'", True, "", {"type": "com.github.error"}),
    ("type like '%.error'", False, "", {"type": "com.github.success"}),
    ("myext LIKE '%ext'", True, "", {"myext": "customext"}),
    ("myext LIKE '%ext'", False, "missingAttribute"),
    ("id = 'myId'", True, "", {"id": "myId"}),
    ("id = 'myId'", False, "", {"id": "notmyId"}),
    ("myext = 'customext'", True, "", {"myext": "customext"}),
    ("myext = 'customext'", False, "missingAttribute"),
    (
        "id LIKE 'my%' AND source LIKE '%.ca'",
        True,
        "",
        {"id": "myId", "source": "http://www.some-website.ca"},
    ),
    (
        "id LIKE 'my%' AND source LIKE '%.ca'",
        False,
        "",
        {"id": "myId", "source": "http://www.some-website.com"},
    ),
    (
        "myext LIKE 'custom%' AND type LIKE '%.error'",
        True,
        "",
        {"myext": "customext", "type": "com.github.error"},
    ),
    (
        "type LIKE 'example.%' AND myext LIKE 'custom%'",
        False,
        "missingAttribute",
        {"type": "example.event.type"},
    ),
    ("id LIKE 'my%' OR source LIKE '%.ca'", True, "", {"id": "myId", "source": "http://www.some-website.ca"}),
    (
        "id LIKE 'my%' OR source LIKE '%.ca'",
        True,
        "",
        {"id": "myId", "source": "http://www.some-website.com"},
    ),
    (
        "id LIKE 'my%' OR source LIKE '%.ca'",
        True,
        "",
        {"id": "notmyId", "source": "http://www.some-website.ca"},
    ),
    (
        "id LIKE 'my%' OR source LIKE '%.ca'",
        False,
        "",
        {"id": "notmyId", "source": "http://www.some-website.com"},
    ),
    (DISJUNCTIVE, True, "", {"id": "myId", "type": "example.event.success"}),
    (
        DISJUNCTIVE,
        True,
        "",
        {"id": "notmyId", "type": "example.event.warning", "source": "http://localhost.localdomain"},
    ),
    (
        DISJUNCTIVE,
        False,
        "",
        {"id": "notmyId", "type": "example.event.warning", "source": "https://localhost.localdomain"},
    ),
    (
        CONJUNCTIVE,
        True,
        "",
        {"id": "myId", "type": "example.event.warning", "source": "http://localhost.localdomain"},
    ),
    (
        CONJUNCTIVE,
        True,
        "",
        {"id": "notmyId", "type": "example.event.success", "source": "http://localhost.localdomain"},
    ),
    (
        CONJUNCTIVE,
        False,
        "",
        {"id": "notmyId", "type": "example.event.warning", "source": "http://localhost.localdomain"},
    ),
    (
        CONJUNCTIVE,
        False,
        "",
        {"id": "myId", "type": "example.event.success", "source": "http://localhost.localdomain"},
    ),
    (
        CONJUNCTIVE_WITH_EXTENSION,
        False,
        "missingAttribute",
        {"id": "myId", "type": "example.event.warning", "source": "http://localhost.localdomain"},
    ),
)

ALL: Final = (
    *CASTING_FUNCTIONS,
    *INTEGER_BUILTIN_FUNCTIONS,
    *STRING_BUILTIN_FUNCTIONS,
    *LIKE_EXPRESSION,
    *CONTEXT_ATTRIBUTES_ACCESS,
    *SPEC_EXAMPLES,
    *SUBSCRIPTIONS_API_RECREATIONS,
)


@pytest.mark.parametrize("row", ALL, ids=lambda row: str(row[0]))
def test_functions(row: Row) -> None:
    """Each expression has the value and the error that the specification says."""
    expression, value, error, attributes = (*row, "", {})[:4] if len(row) == 2 else (*row, {})[:4]
    outcome = cesql.parse(expression).evaluate(EVENT | attributes)
    assert outcome.value == value
    assert type(outcome.value) is type(value)
    assert [each.kind.value for each in outcome.errors] == ([error] if error else [])
