# SPDX-License-Identifier: MIT
"""
Factory certificates: whether a manufacturer's CA vouches for a device.

The path from the client's certificate to an anchor is validated by OpenSSL
(RFC 5280, section 6), unless :mod:`trstctl.backends.direct_anchors` sees at
once that an anchor has signed it.  The anchors are those of one endpoint and nothing
else: neither our own CAs nor those of the system.  What a manufacturer has
revoked, nobody tells us.

Keys and signatures on the path are held to what is asked of our own: a key
that we would not certify, or a signature with SHA-1, vouches for nobody, how
old the factory may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography.x509 import load_der_x509_certificate
from OpenSSL import crypto

from trstctl.backends.direct_anchors import DirectAnchors
from trstctl.errors import Malformed, UnsupportedAlgorithm
from trstctl.model import CertificateFacts, ClientCertificate
from trstctl.pkix.algorithms import read_algorithm_identifier
from trstctl.pkix.certificate import read_certificate, split_signed
from trstctl.policy.extensions import EXTENDED_KEY_USAGES
from trstctl.policy.keys import KeyRules, check_key

#: OpenSSL's errors that say that no anchor has signed it: X509_V_ERR_
#: UNABLE_TO_GET_ISSUER_CERT, CERT_SIGNATURE_FAILURE,
#: DEPTH_ZERO_SELF_SIGNED_CERT, SELF_SIGNED_CERT_IN_CHAIN,
#: UNABLE_TO_GET_ISSUER_CERT_LOCALLY and UNABLE_TO_VERIFY_LEAF_SIGNATURE.
_STRANGERS = frozenset({2, 7, 18, 19, 20, 21})

#: What is weak for everybody.
_KEY_RULES = KeyRules()

#: For how long a path that was validated needs no second look: a request is
#: judged when it comes in and again when it is decided, in one moment.
_MOMENT = timedelta(seconds=1)

_FIT = frozenset({EXTENDED_KEY_USAGES["clientAuth"], "2.5.29.37.0"})


class Stranger(Exception):
    """No anchor leads to the certificate: it counts for nothing."""


class Unfit(Exception):
    """An anchor leads to it, but it is not good; the text says why."""


class FactoryAnchors:
    """
    The anchors of one endpoint.

    :param anchors: DER; roots, or any CA below.
    :raises ValueError: one of them is no certificate.
    """

    _last: tuple[ClientCertificate, datetime] | None = None
    _store: tuple[datetime, crypto.X509Store] | None = None

    def __init__(self, anchors: Sequence[bytes]) -> None:
        self._anchors = [
            crypto.X509.from_cryptography(load_der_x509_certificate(der))
            for der in anchors
        ]
        self._direct = DirectAnchors(anchors)

    def judge(
        self,
        presented: ClientCertificate,
        facts: CertificateFacts,
        now: datetime,
    ) -> None:
        """
        Validate the path to a client certificate.

        :param facts: of the certificate that is presented.
        :raises Stranger: there is no path.
        :raises Unfit: there is one, and something on it is not good.
        """
        last = self._last
        if (
            last is None
            or last[0] != presented
            or not (timedelta(0) <= now - last[1] < _MOMENT)
        ):
            if not self._direct.vouch(facts, now):
                self._validate(presented, now)
            self._last = (presented, now)
        if facts.is_ca:
            raise Unfit("the factory certificate is a CA's")
        usages = facts.extended_key_usage
        if usages and not _FIT.intersection(usages):
            raise Unfit("the factory certificate is not for TLS clients")

    def _validate(self, presented: ClientCertificate, now: datetime) -> None:
        """Let OpenSSL find the path to an anchor."""
        try:
            own = _loaded(presented.der)
            others = [_loaded(der) for der in presented.chain]
        except crypto.Error:
            raise Stranger from None
        context = crypto.X509StoreContext(self._store_of(now), own, others)
        try:
            path = context.get_verified_chain()
        except crypto.X509StoreContextError as error:
            code, depth, text = error.errors
            if code in _STRANGERS:
                raise Stranger from None
            what = "a CA certificate above the factory certificate"
            if depth == 0:
                what = "the factory certificate"
            raise Unfit(f"{what} is not good: {text}") from error
        _check_algorithms(
            [
                presented.der,
                *(
                    crypto.dump_certificate(crypto.FILETYPE_ASN1, one)
                    for one in path[1:]
                ),
            ]
        )

    def _store_of(self, now: datetime) -> crypto.X509Store:
        """Return the anchors as OpenSSL takes them, for one second."""
        # A store keeps the first time that it is given, whatever follows.
        second = now.replace(microsecond=0)
        if self._store is None or self._store[0] != second:
            store = crypto.X509Store()
            # An anchor is trusted as it is, also without the root above it.
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
            for anchor in self._anchors:
                store.add_cert(anchor)
            store.set_time(second)
            self._store = (second, store)
        return self._store[1]


def _check_algorithms(path: Sequence[bytes]) -> None:
    """
    Refuse weak keys and signatures on a path.

    :param path: DER; the anchor, whose own signature proves nothing, last.
    """
    for at, certificate in enumerate(path):
        what = "a CA certificate above the factory certificate"
        if at == 0:
            what = "the factory certificate"
        try:
            check_key(read_certificate(certificate).public_key, _KEY_RULES)
        except (Malformed, UnsupportedAlgorithm) as error:
            raise Unfit(f"{what} is not good: {error.detail}") from error
        _, identifier, _ = split_signed(certificate)
        name, digest, _ = read_algorithm_identifier(identifier)
        if at < len(path) - 1 and name.startswith("other:"):
            raise Unfit(f"{what} is not good: it is signed with {digest}")


def _loaded(der: bytes) -> crypto.X509:
    """Return a certificate as OpenSSL takes it."""
    return crypto.load_certificate(crypto.FILETYPE_ASN1, der)
