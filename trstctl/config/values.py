# SPDX-License-Identifier: MIT
"""The kinds of values that the sections of the configuration share."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from trstctl.ca.pointers import PLACEHOLDER
from trstctl.settings import Duration

__all__ = [
    "AUTHORITY",
    "Count",
    "Digest",
    "Duration",
    "FieldName",
    "FilePath",
    "Host",
    "Interface",
    "Network",
    "PartitionURL",
    "PointerURL",
    "Port",
    "PublicURL",
    "Seconds",
    "StoreURL",
]

#: Stands for the name of an authority's generation.
AUTHORITY = "{authority}"

# Scheme, host, port and path (RFC 3986); nothing that those who read
# certificates might understand in another way.
_URL = re.compile(
    r"(?=.{1,250}$)https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
    r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELD_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


def _interface(value: str) -> str:
    """Return the address to listen at, or refuse what is none."""
    if value:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError(
                "an interface is an IP address, such as 127.0.0.1 or ::1; "
                'leave it empty ("") for all'
            ) from None
    return value


def _network(value: str) -> str:
    """Return the network, or refuse what is none."""
    try:
        found = ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(
            "a network is an IP address, or one with a length and without "
            "host bits, such as 192.0.2.0/24"
        ) from None
    # Such peers are compared as IPv4: it would contain nobody.
    if getattr(found.network_address, "ipv4_mapped", None) is not None:
        raise ValueError("write a network of IPv4 in IPv6 as IPv4")
    return str(found)


def _digest(value: str) -> str:
    """Return a SHA-256 in lower case, or refuse what is none."""
    found = value.lower().replace(":", "")
    if not _DIGEST.fullmatch(found):
        raise ValueError("write the SHA-256 of the certificate in hexadecimal")
    return found


def _field_name(value: str) -> str:
    """Return the name of a header field in lower case, or refuse it."""
    if not _FIELD_NAME.fullmatch(value):
        raise ValueError("write the name of a header field, such as X-Cert")
    return value.lower()


def _host(value: str) -> str:
    """Return the DNS name or IP address, or refuse what is neither."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        if not _HOST.fullmatch(value):
            raise ValueError("write a DNS name or an IP address") from None
    return value.lower()


def _url(value: str) -> str:
    """Return the URL, or refuse what no certificate should point to."""
    if not _URL.fullmatch(value.replace(AUTHORITY, "")):
        raise ValueError(
            "write a URL such as http://pki.example.com/crl/issuing.crl"
        )
    return value


def _public_url(value: str) -> str:
    """Return the beginning of URLs without a slash at its end."""
    if value not in ("auto", "none") and not _URL.fullmatch(value):
        raise ValueError(
            "write auto, none, or a URL such as http://pki.example.com"
        )
    return value.rstrip("/")


def _partition_url(value: str) -> str:
    """Return the URL, or refuse one that is the same for all partitions."""
    if value.count(PLACEHOLDER) != 1:
        raise ValueError(f"it must contain {PLACEHOLDER} once")
    _url(value.replace(PLACEHOLDER, ""))
    return value


def _store(value: str) -> str:
    """Return the store's URL, or refuse what names no backend."""
    prefix, colon, rest = value.partition(":")
    if not (colon and rest and prefix.isalnum()):
        raise ValueError("a store is backend:place, such as sqlite:trstctl.db")
    return value


def _path(value: object) -> object:
    """Return the path, or refuse what can be none."""
    if isinstance(value, str) and (not value or "\0" in value):
        raise ValueError("write the path of a file")
    return value


Port = Annotated[int, Field(ge=0, le=65535)]
PointerURL = Annotated[str, AfterValidator(_url)]
PartitionURL = Annotated[str, AfterValidator(_partition_url)]
PublicURL = Annotated[str, AfterValidator(_public_url)]
Interface = Annotated[str, AfterValidator(_interface)]
Network = Annotated[str, AfterValidator(_network)]
Digest = Annotated[str, AfterValidator(_digest)]
FieldName = Annotated[str, AfterValidator(_field_name)]
Host = Annotated[str, AfterValidator(_host)]
StoreURL = Annotated[str, AfterValidator(_store)]
FilePath = Annotated[Path, BeforeValidator(_path)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
