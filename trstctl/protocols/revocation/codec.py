# SPDX-License-Identifier: MIT
"""
What RFC 5019 and RFC 9110 say of HTTP here: bytes and texts, without I/O.

An OCSP request in a path (RFC 6960, appendix A.1), the names of CRLs, and
the header fields by which caches know how long an answer is good.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import unquote_to_bytes

from trstctl.errors import Malformed
from trstctl.http.head import Headers

_WHITE_SPACE = b" \t\r\n"

# Canonical numbers only: each CRL has one address.
_PARTITION = re.compile(r"([1-9][0-9]{0,5})/(0|[1-9][0-9]{0,5})")


def decode_get(text: str) -> bytes:
    """
    Read an OCSP request out of a path.

    Clients escape all of what base64 has beside letters and digits, or none
    of it, and some put it into lines first.

    :param text: what follows the authority's name and a slash, as it came.
    :raises Malformed: it is not base64.
    """
    encoded = unquote_to_bytes(text).translate(None, _WHITE_SPACE)
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:  # binascii.Error is one
        raise Malformed("the path is not the base64 of a request") from None


def crl_address(path: tuple[str, ...]) -> tuple[str, str] | None:
    """
    Return authority and scope of a CRL's path; ``None``: there is none.

    ``<authority>.crl`` is the full CRL, ``<authority>/delta.crl`` the delta,
    and ``<authority>/<n>/<i>.crl`` the partition ``i`` of ``n``.
    """
    *above, name = path or ("",)
    if not name.endswith(".crl"):
        return None
    name = name.removesuffix(".crl")
    if not above:
        return name, ""
    scope = "/".join((*above[1:], name))
    if scope == "delta" or _PARTITION.fullmatch(scope):
        return above[0], scope
    return None


# --- what caches are told ---------------------------------------------------


def digest_tag(octets: bytes) -> str:
    """Return a strong entity tag: the octets' digest."""
    return f'"{hashlib.sha256(octets).hexdigest()[:40]}"'


def cache_fields(
    now: datetime,
    tag: str,
    modified: datetime,
    fresh_until: datetime,
    expires: datetime,
) -> Mapping[str, str]:
    """
    Return the fields of RFC 5019, section 6.2.

    :param modified: ``thisUpdate``.
    :param fresh_until: when a cache is to ask again.
    :param expires: ``nextUpdate``.
    """
    seconds = max(0, int((fresh_until - now).total_seconds()))
    return {
        "ETag": tag,
        "Last-Modified": http_date(modified),
        "Expires": http_date(expires),
        "Cache-Control": (
            f"max-age={seconds}, public, no-transform, must-revalidate"
        ),
    }


def http_date(moment: datetime) -> str:
    """Return an IMF-fixdate (RFC 9110, section 5.6.7)."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def is_unchanged(
    headers: Headers, tag: str, modified: datetime | None
) -> bool:
    """
    Tell whether the client has this very version already.

    :param modified: ``None``: nobody knows.
    """
    tags = headers.all("If-None-Match")
    if tags:
        # RFC 9110, section 13.1.2: compared as weak tags; the date, if there
        # is one, does not count then.
        given = {
            one.strip().removeprefix("W/")
            for value in tags
            for one in value.split(",")
        }
        return tag in given or "*" in given
    since = headers.get("If-Modified-Since")
    if since is None or modified is None:
        return False
    try:
        # Not "or later": thisUpdate lies before the signature, so that the
        # date of a client's own file, say, may lie between the two.  RFC
        # 9110, section 13.1.3, lets a server want the very date.
        return modified.replace(microsecond=0) == parsedate_to_datetime(since)
    except (TypeError, ValueError, OverflowError):
        # RFC 9110, section 13.1.3: what is no date is ignored.
        return False
