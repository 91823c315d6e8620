# SPDX-License-Identifier: MIT
"""
Where new tokens are shown, each once: a listing, a sheet, the terminal.

They go to standard output and into the sheet, never to standard error, which
is what logs keep.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click

from trstctl.cli.context import Desk
from trstctl.cli.faults import Refused
from trstctl.cli.output import Listing, escaped
from trstctl.cli.printable import Sheet, check_drawing, code, drawn, label_of
from trstctl.model import Endpoint, MintedSecret

_COLUMNS = ("id", "token", "profile", "names", "expires")

#: Labels of one sheet: some 30 MB, and a minute of drawing.
_MOST_LABELS = 10_000

#: Codes on the terminal: more than that have scrolled away.
_MOST_DRAWN = 10

#: The longest URL; a code of it still has modules that a phone can read.
_LONGEST_URL = 512


class Handout:
    """
    Shows new tokens.

    :param form: of the listing; people with a sheet get none.
    :param sheet: a new file, or ``None``.
    :param url: what codes hold beside the token.
    :param qr: whether to draw codes on the terminal.
    :raises Refused: the sheet exists.
    :raises OSError: it cannot be made.
    """

    def __init__(
        self, form: str, sheet: Path | None, url: str, qr: bool
    ) -> None:
        self._sheet = None if sheet is None else Sheet(sheet, url)
        self._listing = None
        if sheet is None or form != "table":
            self._listing = Listing(_COLUMNS, form)
        self._url = url
        self._draws = qr
        self._to_draw: list[MintedSecret] = []

    def add(self, made: Sequence[MintedSecret]) -> None:
        """Show tokens that are committed."""
        for one in made:
            if self._listing is not None:
                self._listing.add(
                    {
                        "id": one.record.id,
                        "token": one.secret,
                        "profile": one.record.profile,
                        "names": one.record.names,
                        "expires": one.record.expires_at,
                    }
                )
            if self._sheet is not None:
                self._sheet.add(label_of(one))
        if self._draws:
            self._to_draw.extend(made)
        if self._sheet is not None:
            self._sheet.keep()

    def close(self) -> None:
        """Complete the listing and the sheet; draw below the listing."""
        if self._listing is not None:
            self._listing.close()
        for one in self._to_draw:
            click.echo(escaped(label_of(one).device))
            click.echo(drawn(code(self._url, one.secret)))
        if self._sheet is not None:
            self._sheet.close()


def check_codes(count: int, qr: bool) -> None:
    """
    Refuse what cannot be drawn, before there is a token.

    :raises click.UsageError: there are too many.
    :raises Refused: the library, or the terminal, is not fit for it.
    """
    if qr and count > _MOST_DRAWN:
        raise click.UsageError(
            f"--qr draws at most {_MOST_DRAWN}; use --sheet FILE"
        )
    if count > _MOST_LABELS:
        raise click.UsageError(
            f"--sheet: at most {_MOST_LABELS} on one; make several"
        )
    if qr:
        _check_terminal()
    check_drawing()


def _check_terminal() -> None:
    """Refuse a terminal whose encoding has no blocks."""
    try:
        "▀▄█".encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        raise Refused(
            f"--qr needs a terminal in UTF-8; this is {sys.stdout.encoding}: "
            "use --sheet FILE"
        ) from None


# --- where tokens are used ---------------------------------------------------


def code_url(
    desk: Desk, tenant_id: str, profile: str, given: str | None
) -> str:
    """
    Return where devices use the tokens, as QR codes tell them.

    :param given: what the operator says, or ``None``.
    :raises click.UsageError: nobody says it, or it is no such URL.
    """
    if given is not None:
        return _checked_url(given)
    https = desk.config.listeners.https
    url = _bootstrap_url(
        [
            endpoint
            for endpoint in desk.config.endpoints.get("bootstrap", ())
            if (endpoint.tenant_id, endpoint.profile) == (tenant_id, profile)
        ],
        https.names[0],
        https.port,
    )
    if url is None:
        raise click.UsageError(
            "--url: the configuration does not tell where these tokens can "
            "be used; name the bootstrap's URL"
        )
    if https.names[0] == "localhost":
        click.echo(
            f"Note: the QR code says {url}; name another by --url.", err=True
        )
    return url


def _bootstrap_url(
    endpoints: Sequence[Endpoint], host: str, port: int
) -> str | None:
    """Return the URL of the first endpoint; ``None`` if nobody knows it."""
    if not (endpoints and port):
        return None
    place = f"[{host}]" if ":" in host else host
    if port != 443:
        place = f"{place}:{port}"
    label = endpoints[0].name
    path = f"/enroll/{label}/bootstrap" if label else "/enroll/bootstrap"
    return f"https://{place}{path}"


def _checked_url(text: str) -> str:
    """Return the URL that was given, whole and for HTTPS."""
    try:
        parts = urlsplit(text)
        whole = (
            parts.scheme == "https"
            and bool(parts.hostname)
            and parts.port != 0
            and len(parts.path) > 1
            and not (parts.username or parts.query or parts.fragment)
        )
    except ValueError:
        whole = False
    if (
        not whole
        or len(text) > _LONGEST_URL
        or not (text.isascii() and text.isprintable())
        or " " in text
    ):
        raise click.UsageError(
            "--url: write the whole bootstrap URL, such as "
            "https://est.example.com/enroll/bootstrap"
        )
    return text
