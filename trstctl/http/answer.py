# SPDX-License-Identifier: MIT
"""
Answers: what a protocol returns, and its octets.

Written heads are in canonical case, always with a length, in one piece with
their body: some enrollment clients want all of it in one TLS record.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from attrs import field, frozen

from trstctl.errors import (
    Malformed,
    TooLarge,
    TrstctlError,
    UnsupportedMediaType,
)
from trstctl.http.head import Head, Refused

#: Octets of a body that are copied for each who asks; a larger one stays
#: where it is, and is sent as fast as the peer takes it.
LARGE = 65536

#: Characters of an error's text in an answer.
MAX_DETAIL = 400


@frozen
class HTTPResponse:
    """
    What a protocol answers.

    :ivar headers: in canonical case; a tuple is one line for each value.
        Length, date, connection and request id are added by the server.
    :ivar facts: flat facts for the one log line of this exchange:
        ``principal``, ``profile``, ``serial``, ``decision``, ``reason``.
    """

    status: int
    content_type: str = ""
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str | tuple[str, ...]] = field(factory=dict)
    facts: Mapping[str, str] = field(factory=dict)


_STATUS_LINES = {
    (version, status.value): f"{version} {status.value} {status.phrase}\r\n"
    for version in ("HTTP/1.0", "HTTP/1.1")
    for status in HTTPStatus
}

_WITHOUT_CONTENT = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


def write_message(
    response: HTTPResponse,
    head: Head | None,
    version: str,
    request_id: str,
    date: str,
    keep_alive: bool,
) -> tuple[bytes, bytes]:
    """
    Return head and body in one piece, and what is left of a large body.

    :param head: the request's, if it could be read.
    :param date: IMF-fixdate.
    :raises ValueError: a header that would break out of its line.
    """
    lines = [f"Date: {date}\r\n"]
    if response.content_type:
        lines.append(f"Content-Type: {response.content_type}\r\n")
    for name, value in response.headers.items():
        if isinstance(value, str):
            lines.append(f"{name}: {value}\r\n")
        else:
            lines.extend(f"{name}: {each}\r\n" for each in value)
    body = response.body
    # RFC 9110, section 8.6: none in a 204; in a 304 it would be that of the
    # content which is not sent.
    if response.status not in _WITHOUT_CONTENT:
        lines.append(f"Content-Length: {len(body)}\r\n")
    else:
        body = b""
    lines.append(f"X-Request-Id: {request_id}\r\n")
    if head is not None and head.method == "POST":
        lines.append("Cache-Control: no-store\r\n")
    if not keep_alive:
        lines.append("Connection: close\r\n")
    elif version == "HTTP/1.0":
        lines.append("Connection: keep-alive\r\n")
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        raise ValueError("a header value must be one line")
    if head is not None and head.method == "HEAD":
        body = b""
    status_line = _STATUS_LINES[version, response.status]
    octets = f"{status_line}{text}\r\n".encode("ascii")
    if len(body) > LARGE:
        return octets, body
    return octets + body, b""


def plain(
    status: int,
    detail: str,
    request_id: str,
    headers: Mapping[str, str | tuple[str, ...]] | None = None,
) -> HTTPResponse:
    """Return one line of plain text that ends with the request's id."""
    line = "".join(c if c.isprintable() else "?" for c in detail[:MAX_DETAIL])
    return HTTPResponse(
        status,
        "text/plain; charset=utf-8",
        f"{line} (request {request_id})\n".encode("utf-8", "replace"),
        headers or {},
    )


#: The errors that a head, or reading a body, can bring about.
_STATUS: Mapping[type[TrstctlError], int] = {
    Malformed: 400,
    TooLarge: 413,
    UnsupportedMediaType: 415,
}


def refusal(error: Refused | TrstctlError, request_id: str) -> HTTPResponse:
    """Return the plain answer to what HTTP's own rules refuse."""
    if isinstance(error, Refused):
        return plain(error.status, error.detail, request_id, error.headers)
    status = _STATUS.get(type(error), 500)
    return plain(status, error.detail, request_id)
