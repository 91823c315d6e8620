# SPDX-License-Identifier: MIT
"""
HTTP/1.x message heads as bytes and values, without I/O (RFC 9112).

Stricter than ``twisted.web.http`` on purpose, because what two parsers
understand differently smuggles requests: a line ends in CRLF, a field is on
one line, there is exactly one Host (on 1.1), at most one length, no transfer
coding but ``chunked``, no trailer, and no content in GET and HEAD.  A whole
head is matched by two regular expressions in place of one call per line,
which also makes it three times faster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from attrs import field, frozen

#: As :attr:`Head.length`: the body comes in chunks.
CHUNKED = -1

#: Fields that one head may have.
MAX_FIELDS = 100

#: The methods of RFC 9110, section 9.1, and RFC 5789.  Others get 501.
METHODS = frozenset(
    (
        "CONNECT",
        "DELETE",
        "GET",
        "HEAD",
        "OPTIONS",
        "PATCH",
        "POST",
        "PUT",
        "TRACE",
    )
)

_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_REQUEST_LINE = re.compile(
    rb"(" + _TCHAR + rb"{1,32}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])"
)
_BLOCK = re.compile(rb"(?:" + _TCHAR + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+")
_FIELD = re.compile(rb"([^:\r]+):[\t ]*([^\r]*)\r\n")
_HOST = re.compile(rb"[A-Za-z0-9.\-_~%!$&'()*+,;=:\[\]]*")
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(/?)([^#]*)", re.IGNORECASE)
_FIRST = re.compile(_TCHAR)
_PLAIN_PATH = re.compile(rb"(?:/[A-Za-z0-9._~-]+)+/?")
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


class Refused(Exception):
    """
    Refused by HTTP's own rules, before any protocol is asked.

    :ivar status: the HTTP status.
    :ivar detail: one line of plain text for the peer.
    :ivar headers: what the answer must also have, such as ``Allow``.
    :ivar version: the version to answer in.
    """

    version = "HTTP/1.1"

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


class Headers:
    """
    The fields of a request: names without case, values as Latin-1 text.

    :param fields: values by lower-case name, in octets, in their order.
    """

    __slots__ = ("raw",)

    def __init__(
        self, fields: Mapping[bytes, tuple[bytes, ...]] | None = None
    ) -> None:
        self.raw = fields or {}

    @classmethod
    def of(cls, fields: Iterable[tuple[str, str]]) -> Headers:
        """Return the headers with these names and values."""
        raw: dict[bytes, tuple[bytes, ...]] = {}
        for name, value in fields:
            key = name.lower().encode("ascii")
            raw[key] = (*raw.get(key, ()), value.encode("latin-1"))
        return cls(raw)

    def get(self, name: str) -> str | None:
        """Return the first value, or ``None``."""
        values = self.raw.get(name.lower().encode("ascii"))
        return values[0].decode("latin-1") if values else None

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value, in order."""
        values = self.raw.get(name.lower().encode("ascii"), ())
        return tuple(value.decode("latin-1") for value in values)


@frozen
class Head:
    """
    The head of a request.

    :ivar method: as it was sent; known to RFC 9110.
    :ivar target: origin-form, with its query, whatever was sent.
    :ivar version: ``HTTP/1.0`` or ``HTTP/1.1``.
    :ivar length: octets of the body, or :data:`CHUNKED`.
    :ivar keep_alive: whether the client wants another exchange.
    :ivar expects: whether the client waits for ``100 Continue``.
    """

    method: str
    target: bytes
    version: str
    headers: Headers = field(repr=False)
    length: int
    keep_alive: bool
    expects: bool


def read_head(
    received: bytes, target_limit: int, fields_limit: int
) -> tuple[Head, bytes] | None:
    """
    Read one head.

    :param received: what has been received since the last message.
    :param target_limit: octets that the request line may have.
    :param fields_limit: octets that all fields together may have.
    :returns: the head and what follows it, or ``None`` if more is needed.
    :raises Refused: it can never become an acceptable head.
    """
    line_end = received.find(b"\r\n")
    end = received.find(b"\r\n\r\n", line_end) if line_end >= 0 else -1
    # The CR of an unfinished line end is not the line's.
    if (
        line_end if line_end >= 0 else len(received.removesuffix(b"\r"))
    ) > target_limit:
        raise Refused(414, "the request target is too long")
    if end < 0:
        _judge_fragment(received, line_end, fields_limit)
        return None
    if end - line_end > fields_limit:
        raise Refused(431, "the header fields are too large")
    match = _REQUEST_LINE.fullmatch(received, 0, line_end)
    if match is None:
        raise Refused(400, "the request line is malformed")
    method, target, major, minor = match.groups()
    if major != b"1" or minor > b"1":
        raise Refused(505, "only HTTP/1.0 and HTTP/1.1 are served")
    version = "HTTP/1.1" if minor == b"1" else "HTTP/1.0"
    try:
        head = _head(
            method.decode("ascii"),
            target,
            version,
            _fields(received, line_end + 2, end + 2),
        )
    except Refused as refused:
        refused.version = version
        raise
    return head, received[end + 4 :]


def _judge_fragment(received: bytes, line_end: int, limit: int) -> None:
    """Refuse an unfinished head that can never become a good one."""
    # The last three octets may be those of the end's four that are here.
    if len(received) - line_end - 3 > limit and line_end >= 0:
        raise Refused(431, "the header fields are too large")
    # A client that ends lines in LF alone would wait for its answer, and we
    # for its CRLF, until the deadline.  A TLS hello is no token, either.
    if received.count(b"\n") != received.count(b"\r\n"):
        raise Refused(400, "a line does not end in CR LF")
    if not _FIRST.match(received):
        raise Refused(400, "the request line is malformed")


def _fields(
    received: bytes, start: int, end: int
) -> dict[bytes, tuple[bytes, ...]]:
    """Return the fields between two places, by lower-case name."""
    # This also refuses obs-fold (RFC 9112, section 5.2), space before the
    # colon (section 5.1) and NUL, CR and LF in values (RFC 9110, 5.5).
    if _BLOCK.fullmatch(received, start, end) is None:
        raise Refused(400, "a header field is malformed")
    pairs = _FIELD.findall(received, start, end)
    found: dict[bytes, tuple[bytes, ...]] = {
        name.lower(): (value.rstrip(),) for name, value in pairs
    }
    if len(found) != len(pairs):
        found = _repeated(pairs)
    if len(pairs) > MAX_FIELDS:
        raise Refused(431, "there are too many header fields")
    return found


def _repeated(
    pairs: list[tuple[bytes, bytes]],
) -> dict[bytes, tuple[bytes, ...]]:
    """Return fields of which some have several values."""
    found: dict[bytes, tuple[bytes, ...]] = {}
    for name, value in pairs:
        key = name.lower()
        found[key] = (*found.get(key, ()), value.rstrip())
    return found


def _head(
    method: str,
    target: bytes,
    version: str,
    fields: dict[bytes, tuple[bytes, ...]],
) -> Head:
    """Apply the rules that need several fields together."""
    if target[:1] != b"/":
        target = _origin_form(target)
    # RFC 9112, section 3.2: 400 for a missing, double or invalid Host.
    hosts = fields.get(b"host")
    if hosts is None:
        if version == "HTTP/1.1":
            raise Refused(400, "a Host field is required")
    elif len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise Refused(400, "the Host field is malformed")
    if method not in METHODS:
        raise Refused(501, "the method is not implemented")
    length = _length(version, fields)
    if length and method in ("GET", "HEAD"):
        raise Refused(400, "this method takes no content")
    expects = False
    if b"expect" in fields and version == "HTTP/1.1":
        if [value.lower() for value in fields[b"expect"]] != [b"100-continue"]:
            raise Refused(417, "the expectation cannot be met")
        expects = length != 0
    keep_alive = (
        _keep_alive(version, fields[b"connection"])
        if b"connection" in fields
        else version == "HTTP/1.1"
    )
    return Head(
        method, target, version, Headers(fields), length, keep_alive, expects
    )


def _origin_form(target: bytes) -> bytes:
    """
    Return what follows the authority of an absolute-form target.

    Who speaks to a proxy sends that form, and a server MUST take it (RFC
    9112, section 3.2.2).  Nothing here depends on the authority or on Host.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not _HOST.fullmatch(match[1]):
        raise Refused(400, "the request target must begin with a slash")
    # RFC 9110, section 4.2.3: an empty path is the same as a slash.
    return b"/" + match[3]


def _length(version: str, fields: dict[bytes, tuple[bytes, ...]]) -> int:
    """Return the body's length (RFC 9112, section 6.3), doubts refused."""
    lengths = fields.get(b"content-length")
    codings = fields.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None or version == "HTTP/1.0":
            raise Refused(400, "the length of the content is ambiguous")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise Refused(400, "the transfer coding is not supported")
        return CHUNKED
    if lengths is None:
        return 0
    if len(lengths) != 1 or not lengths[0].isdigit():
        raise Refused(400, "the length of the content is ambiguous")
    # More digits than these are too many octets for any limit, and int()
    # takes quadratic time.  Zeros in front are no digits that count.
    digits = lengths[0]
    if len(digits) > 19:
        digits = digits.lstrip(b"0")[:19] or b"0"
    return int(digits)


def _keep_alive(version: str, values: tuple[bytes, ...]) -> bool:
    """Tell whether the client wants to go on (RFC 9112, section 9.3)."""
    options = [
        option.strip() for option in b",".join(values).lower().split(b",")
    ]
    if b"close" in options:
        return False
    return version == "HTTP/1.1" or b"keep-alive" in options


def split_path(path: bytes) -> tuple[str, ...]:
    """
    Return the decoded segments of a path, a trailing slash ignored.

    :raises Refused: 404 for a segment that is empty, ``.``, ``..`` or, once
        decoded, not made of unreserved ASCII characters (RFC 3986,
        section 2.3), so that no later layer sees a slash or NUL in a name.
    """
    if _PLAIN_PATH.fullmatch(path):
        segments = path.decode("ascii").strip("/").split("/")
    elif path == b"/":
        return ()
    elif path[:1] != b"/":
        raise Refused(404, "there is nothing here")
    else:
        decoded = [
            _ESCAPE.sub(_unescape, part).decode("latin-1")
            for part in path.removesuffix(b"/").split(b"/")[1:]
        ]
        segments = [part for part in decoded if _SEGMENT.fullmatch(part)]
        if len(segments) != len(decoded):
            raise Refused(404, "there is nothing here")
    if "." in segments or ".." in segments:
        raise Refused(404, "there is nothing here")
    return tuple(segments)


def _unescape(match: re.Match[bytes]) -> bytes:
    """Return the octet of one percent-encoding."""
    return bytes((int(match[1], 16),))
