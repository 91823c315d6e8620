# SPDX-License-Identifier: MIT
"""
Which certificates a command is about: by serial number or by filters.

The store finds by what it has an index for.  What it cannot tell (when a
certificate was issued, whether a revoked one is only on hold) is looked at
here, page by page.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from attrs import evolve, frozen

from trstctl.interfaces import IStore
from trstctl.model import (
    CERTIFICATE_HOLD,
    CertificateQuery,
    CertificateRecord,
    CertificateStatus,
)

#: Certificates that are fetched at once.
PAGE = 1000

#: What the filters of a command line hold, by their names.
Filters = Mapping[str, Any]

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_TIMES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z")

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Moment(click.DateTime):
    """A time; a date is its midnight in UTC."""

    name = "time"

    def __init__(self) -> None:
        super().__init__(_TIMES)

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> datetime:
        """Return an aware time, or refuse the command line."""
        when: datetime = super().convert(value, param, ctx)
        return when if when.tzinfo else when.replace(tzinfo=UTC)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return what the help shows for a value."""
        return "TIME"


_FILTERS = (
    click.option("--profile", help="Only of this profile."),
    click.option(
        "--principal", help="Only whose requester this is: KIND:NAME."
    ),
    click.option("--protocol", help="Only what came over this protocol."),
    click.option(
        "--authority",
        help="Only what this key has signed, by the name that "
        '"ca rollover status" has for it.',
    ),
    click.option(
        "--name", help="Only with exactly this common or other name."
    ),
    click.option(
        "--key",
        metavar="FINGERPRINT",
        help="Only of this public key: SHA-256 of its DER "
        "SubjectPublicKeyInfo, hexadecimal.",
    ),
    click.option(
        "--issued-after",
        type=_Moment(),
        help="Only issued at or after it: 2026-11-23 (midnight, UTC) or "
        "2026-11-23T12:00:00Z.",
    ),
    click.option(
        "--issued-before", type=_Moment(), help="Only issued before it."
    ),
)


def filter_options(command: _Command) -> _Command:
    """Give a command the options that choose certificates of any status."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def status_option(command: _Command) -> _Command:
    """Give a command its option ``--status``."""
    option = click.option(
        "--status",
        type=click.Choice(STATUSES),
        help="Only of this status; revoked means for good.",
    )
    return option(command)


# --- status -----------------------------------------------------------------

_HELD = "held"

#: What a certificate is called: the store's words, and one for a hold.
STATUSES = (
    CertificateStatus.VALID.value,
    _HELD,
    CertificateStatus.REVOKED.value,
    CertificateStatus.SUPERSEDED.value,
)


def is_held(record: CertificateRecord) -> bool:
    """Tell whether it is revoked, but may become valid again."""
    return (
        record.status is CertificateStatus.REVOKED
        and record.revocation_reason == CERTIFICATE_HOLD
    )


def status_of(record: CertificateRecord) -> str:
    """Return its status in one word of :data:`STATUSES`."""
    return _HELD if is_held(record) else record.status.value


# --- what is selected -------------------------------------------------------


@frozen
class Selection:
    """
    What the filters ask for.

    :ivar query: what the store can tell; its tenant is open.
    :ivar status: a word of :data:`STATUSES`, or ``None`` for all.
    :ivar authority: the generation that signed, or ``None`` for any.
    :ivar issued_after: the first moment that counts.
    :ivar issued_before: the first moment that does not.
    """

    query: CertificateQuery
    status: str | None = None
    authority: str | None = None
    issued_after: datetime | None = None
    issued_before: datetime | None = None

    @property
    def is_narrower(self) -> bool:
        """Whether the store returns more than what is asked for."""
        return (
            self.status in {_HELD, CertificateStatus.REVOKED.value}
            or self.authority is not None
            or self.issued_after is not None
            or self.issued_before is not None
        )

    def is_past(self, record: CertificateRecord) -> bool:
        """Tell whether nothing behind this one can be asked for."""
        return (
            self.issued_after is not None
            and self.query.expiring_before is None
            and record.issued_at < self.issued_after
        )

    def matches(self, record: CertificateRecord) -> bool:
        """Tell whether what the store returned is asked for."""
        return (
            self.status in {None, status_of(record)}
            and self.authority in {None, record.authority}
            and (
                self.issued_after is None
                or self.issued_after <= record.issued_at
            )
            and (
                self.issued_before is None
                or record.issued_at < self.issued_before
            )
        )


def selected(filters: Filters) -> Selection:
    """
    Return what the filters of a command line ask for.

    :raises click.UsageError: a fingerprint is none.
    """
    status = filters.get("status")
    key = filters["key"]
    return Selection(
        query=CertificateQuery(
            tenant_id="",
            status=None if status is None else _STORED.get(status),
            profile=filters["profile"],
            protocol=filters["protocol"],
            principal=filters["principal"],
            public_key_fingerprint=None
            if key is None
            else key_fingerprint(key, "--key"),
            name=filters["name"],
        ),
        status=status,
        authority=filters["authority"],
        issued_after=filters["issued_after"],
        issued_before=filters["issued_before"],
    )


_STORED = {
    **{status.value: status for status in CertificateStatus},
    _HELD: CertificateStatus.REVOKED,
}


async def found(
    store: IStore, selection: Selection, tenant_id: str, limit: int = 0
) -> AsyncIterator[CertificateRecord]:
    """
    Yield a tenant's certificates, as the store orders them.

    :param limit: at most so many; 0 means all.
    """
    size = min(PAGE, limit or PAGE)
    if selection.is_narrower:
        size = PAGE
    query = evolve(selection.query, tenant_id=tenant_id, limit=size)
    count = 0
    while True:
        page = await store.list_certificates(query)
        for record in page:
            if selection.is_past(record):
                return
            if selection.matches(record):
                yield record
                count += 1
                if count == limit:
                    return
        if len(page) < size:
            return
        query = evolve(query, after=page[-1].serial)


# --- what is written by hand ------------------------------------------------


def serial_number(text: str) -> str:
    """Return a serial number as the inventory has it: ``AB:CD`` is fine."""
    plain = text.replace(":", "").lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,40}", plain):
        raise click.UsageError(f"{text!r} is no serial number")
    return plain.lstrip("0") or "0"


def key_fingerprint(text: str, option: str) -> str:
    """Return a public key's SHA-256 as the store has it."""
    plain = text.replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(plain):
        raise click.UsageError(
            f"{option}: a SHA-256 has 64 hexadecimal digits"
        )
    return plain
