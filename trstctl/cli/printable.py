# SPDX-License-Identifier: MIT
"""
Tokens for labels: a sheet of HTML to print, and QR codes on the terminal.

A QR code (ISO/IEC 18004) holds one line of JSON: ``url``, where to send the
bootstrap request, and ``token``.  A sheet is one file that loads nothing from
anywhere, which its content security policy states, too; it is well-formed
XML.  What came from a list of devices is escaped.

``segno``, which draws the codes, is the extra ``qr`` of this package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click
from attrs import field, frozen

from trstctl.cli.faults import Refused
from trstctl.cli.output import escaped, moment
from trstctl.model import MintedSecret

if TYPE_CHECKING:
    from segno import QRCode

#: Light modules around a code (ISO/IEC 18004, section 5.3.8).
_QUIET_ZONE = 4

_HEAD = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'"/>
<meta name="referrer" content="no-referrer"/>
<title>Bootstrap tokens</title>
<style>
@page { margin: 10mm; }
body { margin: 0; font: 9pt sans-serif; color: #000; background: #fff; }
main { display: grid; grid-template-columns: repeat(auto-fill, 92mm); }
section { display: flex; gap: 3mm; align-items: center; padding: 3mm;
  border: 0.2mm dashed #999; break-inside: avoid; overflow-wrap: anywhere; }
h2 { margin: 0 0 1mm; font-size: 11pt; }
p { margin: 0; }
code { font: 8pt monospace; }
svg { flex: none; width: 34mm; height: 34mm;
  shape-rendering: crispEdges; }
</style>
</head>
<body>
<main>
"""

_TAIL = "</main>\n</body>\n</html>\n"


@frozen
class Label:
    """
    What is printed for one token.

    :ivar device: what to find the device by.
    :ivar token: the token; secret.
    """

    device: str
    names: Sequence[str]
    profile: str
    expires: datetime
    token_id: str
    token: str = field(repr=False)


def label_of(made: MintedSecret) -> Label:
    """Return the label of a new token; its device is the common name's."""
    secret = made.record
    devices = [
        pattern.removeprefix("cn:")
        for pattern in secret.names
        if pattern.startswith("cn:")
    ]
    return Label(
        device=devices[0] if devices else secret.id,
        names=secret.names,
        profile=secret.profile,
        expires=secret.expires_at,
        token_id=secret.id,
        token=made.secret,
    )


# --- codes ------------------------------------------------------------------


def _segno() -> ModuleType:
    """Return the library that draws, or say how to get it."""
    try:
        import segno
    except ImportError:
        raise Refused(
            "QR codes need segno; install it: python3 -m pip install "
            "'segno>=1.6' (or trstctl with its extra: trstctl[qr])"
        ) from None
    return segno


def check_drawing() -> None:
    """
    Refuse before there is a token what could not be drawn.

    :raises Refused: the library is not installed.
    """
    _segno()


def content(url: str, token: str) -> str:
    """Return what a code holds."""
    return json.dumps({"url": url, "token": token}, separators=(",", ":"))


def code(url: str, token: str) -> QRCode:
    """Return the code of a token; a seventh of it may be unreadable."""
    made: QRCode = _segno().make_qr(content(url, token), error="m")
    return made


def drawn(made: QRCode) -> str:
    """Return a code in half blocks, two rows of modules to a line."""
    rows = [list(row) for row in made.matrix_iter(border=_QUIET_ZONE)]
    rows.append([0] * len(rows[0]))  # there is an odd number
    blocks = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
    lines = (
        "".join(blocks[pair] for pair in zip(above, below, strict=True))
        for above, below in zip(rows[::2], rows[1::2], strict=True)
    )
    # Dark on light, whatever the terminal's colours are: not every reader
    # takes an inverted code.
    return "\n".join(
        click.style(line, fg="black", bg="bright_white") for line in lines
    )


def _picture(made: QRCode) -> str:
    """Return a code as an SVG element; the sheet's style has its size."""
    picture: str = made.svg_inline(
        omitsize=True, border=_QUIET_ZONE, svgclass=None, lineclass=None
    )
    return picture


# --- a sheet ----------------------------------------------------------------


class Sheet:
    """
    A new file of labels, that only its owner can read.

    It is never written over another: the tokens on that one are nowhere
    else.  After each :meth:`keep` it holds what was added, whatever happens
    next.

    :param url: where the tokens are used.
    :raises Refused: the file exists.
    :raises OSError: it cannot be made.
    """

    def __init__(self, path: Path, url: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC, mode=0o600)
        except FileExistsError:
            raise Refused(
                f"{path} exists, and the tokens on it may be nowhere else; "
                "choose another name"
            ) from None
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8")
        self._path = path
        self._url = url
        self._is_empty = True
        self._stream.write(_HEAD)

    def add(self, one: Label) -> None:
        """Write a label."""
        self._is_empty = False
        rows = (
            f"{one.profile}, until {moment(one.expires)}",
            ", ".join(one.names),
            self._url,
            f"id {one.token_id}",
        )
        lines = "".join(f"<p>{_html(row)}</p>\n" for row in rows if row)
        self._stream.write(
            f"<section>\n{_picture(code(self._url, one.token))}\n<div>\n"
            f"<h2>{_html(one.device)}</h2>\n"
            f"<p><code>{_html(one.token)}</code></p>\n{lines}"
            "</div>\n</section>\n"
        )

    def keep(self) -> None:
        """Make sure that the file survives a crash."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Complete the file; without a label there is none."""
        with self._stream:
            self._stream.write(_TAIL)
            self.keep()
        if self._is_empty:
            self._path.unlink()


def _html(text: str) -> str:
    """Return text for an element; what does not print is made visible."""
    return escape(escaped(text))
