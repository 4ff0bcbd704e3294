"""The functions of the libraries, a table each."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api.cel import library

STRINGS = [
    "'tea'.charAt(1) == 'e' && 'tea'.charAt(3) == ''",
    "'banana'.indexOf('an') == 1 && 'banana'.indexOf('an', 2) == 3 && 'banana'.indexOf('x') == -1",
    "'banana'.indexOf('') == 0 && 'banana'.indexOf('', 3) == 3 && 'banana'.indexOf('b', 9) == -1",
    "'banana'.lastIndexOf('an') == 3 && 'banana'.lastIndexOf('an', 2) == 1 && 'b'.lastIndexOf('') == 1",
    "'ÄbC'.lowerAscii() == 'Äbc' && 'äbC'.upperAscii() == 'äBC'",
    "'a-b-c'.replace('-', '+') == 'a+b+c' && 'a-b-c'.replace('-', '+', 1) == 'a+b-c'",
    (
        "'ab'.replace('', '.') == '.a.b.' && 'ab'.replace('a', 'x', 0) == 'ab'"
        " && 'aa'.replace('a', 'b', -1) == 'bb'"
    ),
    "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c']",
    "'abc'.split('') == ['a', 'b', 'c'] && 'abc'.split('', 2) == ['a', 'bc'] && 'a'.split(',', 0) == []",
    "'banana'.substring(2) == 'nana' && 'banana'.substring(1, 3) == 'an' && 'x'.substring(1) == ''",
    "' \\t a\\u2003'.trim() == 'a'",
    "['a', 'b'].join() == 'ab' && ['a', 'b'].join('-') == 'a-b' && [].join('-') == ''",
    "strings.quote('a\"b\\n') == '\"a\\\\\"b\\\\n\"'",
    "'%s is %d years, %.1f m'.format(['Kim', 40, 1.75]) == 'Kim is 40 years, 1.8 m'",
    "'%b %o %x %X %%'.format([5, 8, 255, 'hi']) == '101 10 ff 6869 %'",
    "'%x %X'.format([b'\\xab', 171u]) == 'ab AB' && '%b'.format([true]) == '1'",
    "'%e %.2e'.format([1234.5, 0.0012]) == '1.234500\u00d710⁰³ 1.20\u00d710⁻⁰³'",
    "'%s'.format([[1, 'a', 2.5, null, true]]) == '[1, \"a\", 2.500000, null, true]'",
    "'%s'.format([{'b': 1, 'a': duration('1s')}]) == '{\"a\":duration(\"1s\"), \"b\":1}'",
    "'%s %s %s'.format([duration('90s'), timestamp(0), string]) == '90s 1970-01-01T00:00:00Z string'",
    "'%s'.format([b'raw']) == 'raw' && '%d'.format([7u]) == '7'",
]
LISTS = [
    "[1, 2, 2].isSorted() && !['b', 'a'].isSorted() && [].isSorted()",
    (
        "[1, 2].sum() == 3 && [1.5, 2.0].sum() == 3.5"
        " && [duration('1s'), duration('2s')].sum() == duration('3s')"
    ),
    "dyn([1u, 2u]).sum() == 3u && dyn([1.0, 2.0]).sum() == 3.0",
    "[3, 1, 2].min() == 1 && [3, 1, 2].max() == 3 && ['b', 'a'].min() == 'a' && [true, false].max()",
    "['a', 'b', 'a'].indexOf('a') == 0 && ['a', 'b', 'a'].lastIndexOf('a') == 2 && ['a'].indexOf('x') == -1",
    "[1, 2, 3, 4].slice(1, 3) == [2, 3] && [1].slice(1, 1) == []",
    "[[1, 2], [3]].flatten() == [1, 2, 3] && [dyn(1), dyn([dyn(2), dyn([3])])].flatten(2) == [1, 2, 3]",
    "lists.range(3) == [0, 1, 2] && lists.range(-1) == []",
    "[1, 2, 3].reverse() == [3, 2, 1] && [1, 2, 1, 3, 2].distinct() == [1, 2, 3]",
    "['a', 'b', 'a'].distinct() == ['a', 'b']",
    "[3, 1, 2].sort() == [1, 2, 3] && ['b', 'a'].sort() == ['a', 'b'] && [].sort() == []",
    "['ccc', 'a', 'bb'].sortBy(e, e.size()) == ['a', 'bb', 'ccc']",
    "[{'n': 2}, {'n': 1}].sortBy(e, e.n) == [{'n': 1}, {'n': 2}]",
]
SETS = [
    "sets.contains([1, 2, 3], [3, 1]) && sets.contains([1], []) && !sets.contains([1], [2])",
    "sets.equivalent([1, 2, 2], [2, 1]) && !sets.equivalent([1], [1, 2])",
    "sets.intersects([1, 2], [2, 3]) && !sets.intersects([1], [2]) && !sets.intersects([], [])",
]
REGEX = [
    "'abc 123 def'.find('[0-9]+') == '123' && 'abc'.find('[0-9]') == ''",
    "'1 22 333'.findAll('[0-9]+') == ['1', '22', '333'] && '1 22 333'.findAll('[0-9]+', 2) == ['1', '22']",
    "'abc'.findAll('x') == [] && 'é1'.findAll('.') == ['é', '1'] && '1 2'.findAll('[0-9]', 0) == []",
]
URLS = [
    "url('https://user@example.com:8080/a%20b/c?x=1&x=2&y=#f').getScheme() == 'https'",
    "url('https://example.com:80/').getHost() == 'example.com:80'",
    "url('https://example.com:80/').getHostname() == 'example.com'",
    "url('https://[::1]:80/').getHostname() == '::1' && url('https://[::1]:80/').getPort() == '80'",
    "url('https://example.com/').getPort() == '' && url('/path').getHost() == ''",
    "url('https://example.com/a%20b').getEscapedPath() == '/a%20b'",
    "url('https://example.com/a b').getEscapedPath() == '/a%20b'",
    "url('https://e.com/?x=1&x=2&y=').getQuery() == {'x': ['1', '2'], 'y': ['']}",
    "isURL('https://example.com') && isURL('/a') && isURL('mailto:a@b') && !isURL('../a') && !isURL('')",
    "url('https://a.com/x') == url('https://a.com/x') && url('https://a.com/x') != url('https://b.com/x')",
]
QUANTITIES = [
    "isQuantity('1Gi') && isQuantity('100m') && !isQuantity('1Gb') && !isQuantity('')",
    "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('50m').isLessThan(quantity('1'))",
    "quantity('1000m').compareTo(quantity('1')) == 0 && quantity('1').compareTo(quantity('2')) == -1",
    (
        "quantity('1Ki').asInteger() == 1024 && quantity('1.5').isInteger() == false"
        " && quantity('2k').isInteger()"
    ),
    "quantity('1.5').asApproximateFloat() == 1.5 && sign(quantity('-1')) == -1 && sign(quantity('0')) == 0",
    "quantity('1').add(quantity('500m')) == quantity('1.5') && quantity('1').add(2) == quantity('3')",
    "quantity('1').sub(quantity('500m')) == quantity('500m') && quantity('1').sub(2) == quantity('-1')",
    "quantity('1000Mi') == quantity('1048576000')",
]
ADDRESSES = [
    (
        "isIP('10.0.0.1') && isIP('::1') && !isIP('10.0.0.256') && !isIP('::ffff:1.2.3.4')"
        " && !isIP('fe80::1%eth0')"
    ),
    "ip('10.0.0.1').family() == 4 && ip('::1').family() == 6 && string(ip('::0001')) == '::1'",
    "ip.isCanonical('::1') && !ip.isCanonical('::0001')",
    "ip('0.0.0.0').isUnspecified() && ip('127.1.2.3').isLoopback() && ip('::1').isLoopback()",
    "ip('224.0.0.1').isLinkLocalMulticast() && ip('ff02::1').isLinkLocalMulticast()",
    "ip('169.254.1.1').isLinkLocalUnicast() && ip('fe80::1').isLinkLocalUnicast()",
    "ip('192.168.0.1').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast()",
    "ip('10.0.0.1') == ip('10.0.0.1') && type(ip('::1')) == net.IP",
    "isCIDR('10.0.0.0/8') && isCIDR('::/0') && !isCIDR('10.0.0.0') && !isCIDR('10.0.0.0/33')",
    "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
    "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
    "cidr('10.1.2.3/8').prefixLength() == 8 && cidr('10.1.2.3/8').ip() == ip('10.1.2.3')",
    "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && string(cidr('10.1.2.3/8')) == '10.1.2.3/8'",
    "!cidr('::/0').containsIP('10.0.0.1') && type(cidr('::/0')) == net.CIDR",
]
FORMATS = [
    "!format.dns1123Label().validate('my-name').hasValue()",
    "format.dns1123Label().validate('My_Name').value().size() == 1",
    (
        "!format.dns1123Subdomain().validate('a.b').hasValue()"
        " && format.dns1123Subdomain().validate('a..b').hasValue()"
    ),
    "!format.dns1035Label().validate('a1').hasValue() && format.dns1035Label().validate('1a').hasValue()",
    "!format.qualifiedName().validate('example.com/name').hasValue()",
    "!format.labelValue().validate('').hasValue() && format.labelValue().validate('-a').hasValue()",
    (
        "!format.dns1123LabelPrefix().validate('a-').hasValue()"
        " && format.dns1123Label().validate('a-').hasValue()"
    ),
    "!format.uri().validate('https://a.com').hasValue() && format.uri().validate('x').hasValue()",
    "!format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()",
    "format.uuid().validate('x').value() == ['does not match the UUID format']",
    "!format.byte().validate('QUI=').hasValue() && format.byte().validate('?').hasValue()",
    "!format.date().validate('2020-01-02').hasValue() && format.date().validate('2020-13-02').hasValue()",
    "!format.datetime().validate('2020-01-02T03:04:05Z').hasValue()",
    "format.named('uuid').hasValue() && !format.named('nope').hasValue()",
    "format.named('uuid').value() == format.uuid()",
]
VERSIONS = [
    "isSemver('1.2.3') && isSemver('1.0.0-rc.1+build') && !isSemver('v1.2.3') && !isSemver('1.2')",
    "isSemver('v1.2', true) && isSemver('01.02.03', true) && !isSemver('1.2-rc', true)",
    "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
    "semver('1.10.0').isGreaterThan(semver('1.9.9')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0'))",
    "semver('1.0.0-alpha').compareTo(semver('1.0.0-alpha.1')) == -1",
    "semver('1.0.0-2').isLessThan(semver('1.0.0-10')) && semver('1.0.0-10').isLessThan(semver('1.0.0-a'))",
    "semver('1.0.0+a') == semver('1.0.0+b') && semver('v1.2', true) == semver('1.2.0')",
]
ERRORS = [
    ("'a'.charAt(2)", "index out of range: 2"),
    ("'a'.indexOf('a', -1)", "index out of range: -1"),
    ("'abc'.substring(2, 1)", "invalid substring range. start: 2, end: 1"),
    ("'abc'.substring(4)", "index out of range: 4"),
    ("[dyn('a'), dyn(1)].join()", "join: invalid input: 1"),
    (
        "'%d'.format(['a'])",
        "error during formatting: decimal clause can only be used on integers, was given string",
    ),
    ("'%d %d'.format([1])", "index 1 out of range"),
    ("'%z'.format([1])", 'could not parse formatting clause: unrecognized formatting clause "z"'),
    ("'%d'.format([1, 2])", "too many arguments supplied to string.format (expected 1, got 2)"),
    ("'100%'.format([])", "could not parse formatting clause: unexpected end of string"),
    ("dyn([]).min()", "min called on empty list"),
    ("[1].slice(1, 2)", "cannot slice(1, 2), list is length 1"),
    ("[1].slice(-1, 1)", "cannot slice(-1, 1), negative indexes not supported"),
    ("[[1]].flatten(-1)", "level must be non-negative"),
    ("[dyn(1), dyn('a')].sort()", "list elements must have the same type"),
    ("'a'.find(dyn('('))", "Illegal regex: error parsing regexp: missing closing ): `(`"),
    (
        "url('../x')",
        'URL parse error during conversion from string: parse "../x": invalid URI for request',
    ),
    (
        "quantity('x')",
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
    ("quantity('1.5').asInteger()", "cannot convert value to integer"),
    ("ip('::ffff:1.2.3.4')", 'IPv4-mapped IPv6 address "::ffff:1.2.3.4" is not allowed'),
    ("semver('1')", 'Invalid version "1"'),
]


@pytest.mark.parametrize(
    "source",
    [
        *STRINGS,
        *LISTS,
        *SETS,
        *REGEX,
        *URLS,
        *QUANTITIES,
        *ADDRESSES,
        *FORMATS,
        *VERSIONS,
    ],
)
def test_what_is_true(evaluate: Any, source: str) -> None:
    """Each of these holds."""
    outcome = evaluate(source)
    assert (outcome.value, outcome.error) == (True, None)


@pytest.mark.parametrize(("source", "message"), ERRORS)
def test_what_has_no_value(evaluate: Any, source: str, message: str) -> None:
    """The error has the words of the library it is modelled on."""
    assert str(evaluate(source).error) == message


def test_every_function_is_called_by_a_test() -> None:
    """A function nobody tests is a function nobody knows."""
    texts = "\n".join([*STRINGS, *LISTS, *SETS, *REGEX, *URLS, *QUANTITIES, *ADDRESSES, *FORMATS, *VERSIONS])
    modules = (
        library.strings,
        library.lists,
        library.sets,
        library.regex,
        library.urls,
        library.quantity,
        library.ip,
        library.cidr,
        library.semver,
    )
    names = {each.name for module in modules for each in module.FUNCTIONS}
    untested = {name for name in names if f"{name}(" not in texts}
    assert untested == {"@sortByAssociatedKeys"}  # what `sortBy` stands for
