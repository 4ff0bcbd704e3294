"""Links in answers: a server in a pod does not know the path by which the API server shows it.

`/style.css` on its page is `/api/v1/namespaces/default/pods/web/proxy/style.css`. As in Kubernetes, links are
changed that begin with a slash and name no other host, in `Location` and in attributes of HTML that are URLs;
scripts and style sheets are left as they are.
"""

from __future__ import annotations

import html
import re
import urllib.parse
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

_ATTRIBUTES: Final[dict[str, frozenset[str]]] = {
    "a": frozenset({"href"}),
    "applet": frozenset({"codebase"}),
    "area": frozenset({"href"}),
    "audio": frozenset({"src"}),
    "base": frozenset({"href"}),
    "blockquote": frozenset({"cite"}),
    "body": frozenset({"background"}),
    "button": frozenset({"formaction"}),
    "command": frozenset({"icon"}),
    "del": frozenset({"cite"}),
    "embed": frozenset({"src"}),
    "form": frozenset({"action"}),
    "frame": frozenset({"longdesc", "src"}),
    "head": frozenset({"profile"}),
    "html": frozenset({"manifest"}),
    "iframe": frozenset({"longdesc", "src"}),
    "img": frozenset({"longdesc", "src", "usemap"}),
    "input": frozenset({"formaction", "src", "usemap"}),
    "ins": frozenset({"cite"}),
    "link": frozenset({"href"}),
    "object": frozenset({"classid", "codebase", "data", "usemap"}),
    "q": frozenset({"cite"}),
    "script": frozenset({"src"}),
    "source": frozenset({"src"}),
    "video": frozenset({"poster", "src"}),
}
_RAW: Final = frozenset(
    {"iframe", "noembed", "noframes", "noscript", "plaintext", "script", "style", "textarea", "title", "xmp"}
)
"""Elements whose content is text, whatever it looks like."""
# No step of it is tried a second time: pages are written by strangers.
_TAG: Final = re.compile(
    r"""<([a-zA-Z][^\s/>]*+)((?:[^>=]|=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>"'][^\s>]*+|(?=>)))*+)>"""
)
_ATTRIBUTE: Final = re.compile(r"""([^\s=/>"']++)(\s*+=\s*+)("[^"]*+"|'[^']*+'|[^\s>"'][^\s>]*+)""")
_WINDOW_BITS: Final = {"": 0, "gzip": 31, "deflate": -15}
"""Of the encodings that can be looked into."""
_BYTES_MAX: Final = 8 * 1024 * 1024


class Page(NamedTuple):
    """What a link is looked at from."""

    prefix: str
    """The path of the API server behind which the other server is."""
    server: str
    """Host and port of the other server."""
    asked: str
    """The host that the client asked."""


def link(url: str, page: Page) -> str:
    """The link as it leads back through the API server; `ValueError` if it is no URL."""
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", page.server, page.asked) or not parts.path.startswith("/"):
        return url
    path = parts.path if parts.path.startswith(page.prefix) else page.prefix.rstrip("/") + parts.path
    if parts.netloc and parts.netloc == page.asked:
        return urllib.parse.urlunsplit(parts._replace(path=path))
    return urllib.parse.urlunsplit(parts._replace(scheme="", netloc="", path=path))


def can_be_read(content_type: str, encoding: str) -> bool:
    """Whether the answer is a page whose links can be changed."""
    return content_type.partition(";")[0].strip() == "text/html" and encoding in _WINDOW_BITS


def body(content: bytes, encoding: str, page: Page) -> bytes:
    """A page with its links changed, in the same encoding; as it is where it cannot be decoded."""
    bits = _WINDOW_BITS[encoding]
    if not bits:
        return _changed(content, page)
    reader = zlib.decompressobj(bits)
    try:
        plain = reader.decompress(content, _BYTES_MAX)
    except zlib.error:
        return content
    if not reader.eof:
        return content  # it is cut short, or larger than any page
    writer = zlib.compressobj(wbits=bits)
    return writer.compress(_changed(plain, page)) + writer.flush()


def _changed(content: bytes, page: Page) -> bytes:
    text = content.decode("utf-8", "surrogateescape")
    return "".join(_pieces(text, page)).encode("utf-8", "surrogateescape")


def _pieces(text: str, page: Page) -> Iterator[str]:
    at = 0
    while (begin := text.find("<", at)) >= 0:
        if text.startswith("<!--", begin):
            end = text.find("-->", begin)
            if end < 0:
                break
            yield text[at : end + 3]
            at = end + 3
            continue
        if not text[begin + 1 : begin + 2].isalpha():
            yield text[at : begin + 1]
            at = begin + 1
            continue
        tag = _TAG.match(text, begin)
        if tag is None:
            break  # it is open to the end of the page
        yield text[at:begin]
        yield _tag(tag, page)
        at = tag.end()
        if (name := tag[1].lower()) in _RAW:
            end = _end_of(text, name, at)
            yield text[at:end]
            at = end
    yield text[at:]


def _end_of(text: str, name: str, at: int) -> int:
    closing = re.compile(f"</{name}", re.IGNORECASE).search(text, at)
    return closing.start() if closing else len(text)


def _tag(tag: re.Match[str], page: Page) -> str:
    urls = _ATTRIBUTES.get(tag[1].lower())
    if urls is None:
        return tag[0]

    def changed(attribute: re.Match[str]) -> str:
        name, equals, quoted = attribute.groups()
        if name.lower() not in urls:
            return attribute[0]
        value = html.unescape(quoted[1:-1] if quoted[0] in "\"'" else quoted)
        try:
            new = link(value, page)
        except ValueError:
            return attribute[0]
        return attribute[0] if new == value else f'{name}{equals}"{html.escape(new)}"'

    return f"<{tag[1]}{_ATTRIBUTE.sub(changed, tag[2])}>"
