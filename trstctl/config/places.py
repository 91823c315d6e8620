# SPDX-License-Identifier: MIT
"""What an authority's certificates point to, by the configuration."""

from __future__ import annotations

from trstctl.ca.edition import Issuer
from trstctl.ca.pointers import PLACEHOLDER, Places
from trstctl.config.model import AuthoritySettings, Configuration
from trstctl.config.values import AUTHORITY
from trstctl.interfaces import IAuthority

#: The protocol that serves what the pointers lead to.
_SERVED_BY = "revocation"

#: Names by which each host calls itself.
_THIS_HOST = frozenset(("localhost", "127.0.0.1", "::1"))


def places_of(
    config: Configuration, configured: str, name: str | None = None
) -> Places:
    """
    Return where the authority's CRLs, responder and certificate are.

    Without a URL for partitions nothing is divided: a partition's CRL must
    say by its URL what it is of.

    :param configured: the authority's name in the configuration.
    :param name: which generation of it; by default, the first.
    """
    name = name or configured
    settings = config.authorities[configured]
    base = _base(config, settings)
    urls = settings.urls

    def chosen(given: tuple[str, ...] | None, path: str) -> tuple[str, ...]:
        if given is not None:
            return tuple(url.replace(AUTHORITY, name) for url in given)
        return (base + path,) if base else ()

    partition = chosen(urls.partition, f"/crl/{name}/{PLACEHOLDER}.crl")
    return Places(
        crl=chosen(urls.crl, f"/crl/{name}.crl"),
        partition=partition,
        delta=chosen(urls.delta, f"/crl/{name}/delta.crl"),
        ocsp=chosen(urls.ocsp, f"/ocsp/{name}"),
        issuer=chosen(urls.issuer, f"/ca/{name}.cer"),
        partitions=settings.crl.partitions if partition else 1,
    )


def issuer_of(
    config: Configuration,
    authority: IAuthority,
    configured: str | None = None,
) -> Issuer:
    """
    Return the authority with what the publisher must know of it.

    :param configured: as for :func:`places_of`; by default, its own name.
    """
    configured = configured or authority.name
    return Issuer(
        authority,
        config.authorities[configured].crl.schedule(),
        places_of(config, configured, authority.name),
    )


def same_for_all(settings: AuthoritySettings) -> list[str]:
    """
    Return the keys of URLs that would be the same for all generations.

    Each generation has CRLs, a responder and a certificate of its own.
    """
    return [
        key
        for key, urls in settings.urls.model_dump().items()
        for url in urls or ()
        if AUTHORITY not in url
    ]


def over_tls(places: Places) -> bool:
    """
    Tell whether a pointer leads over TLS.

    RFC 5280, section 8: then it must be possible to check the server's own
    certificate without it.
    """
    return any(
        url.startswith("https:")
        for urls in (
            places.crl,
            places.partition,
            places.delta,
            places.ocsp,
            places.issuer,
        )
        for url in urls
    )


def doubt_about(config: Configuration, name: str) -> str:
    """
    Return why others may be unable to follow an authority's pointers, or
    nothing; a URL that somebody has chosen is not doubted.
    """
    settings = config.authorities[name]
    base = _base(config, settings) if settings.public_url == "auto" else ""
    places = places_of(config, name)
    urls = (*places.ocsp, *places.crl, *places.issuer)
    if not base or not any(url.startswith(f"{base}/") for url in urls):
        return ""
    if config.listeners.https.names[0] in _THIS_HOST:
        return f"{base} is this host only"
    if base.startswith("https:"):
        return f"{base} is over TLS, which many clients do not follow"
    return ""


def _base(config: Configuration, settings: AuthoritySettings) -> str:
    """Return what the URLs begin with, or nothing."""
    if settings.public_url != "auto":
        given = settings.public_url
        return "" if given == "none" else given
    if _SERVED_BY not in config.protocols:
        return ""
    listeners = config.listeners
    host = listeners.https.names[0]
    if ":" in host:
        host = f"[{host}]"
    # Not over TLS, if there is a choice: who checks the certificate of the
    # server would have to ask that server (RFC 5280, section 8).
    if listeners.http.enabled and listeners.http.port:
        port = listeners.http.port
        return f"http://{host}" + (f":{port}" if port != 80 else "")
    port = listeners.https.port
    if not port:
        return ""  # any port that is free: nobody knows it yet
    return f"https://{host}" + (f":{port}" if port != 443 else "")
