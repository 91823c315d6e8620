# SPDX-License-Identifier: MIT
"""
The bodies of CMP that a gateway writes (RFC 9810, section 5.3).

Every function returns a :class:`trstctl.pkix.cmp.PKIBody`, ready for
:func:`trstctl.pkix.cmp.prepare`.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field, frozen

from trstctl.pkix import der
from trstctl.pkix.cmp import PKIBody
from trstctl.pkix.cmp_bodies import ErrorMsg
from trstctl.pkix.cmp_itav import InfoTypeAndValue
from trstctl.pkix.cmp_status import PKIStatusInfo, free_text
from trstctl.pkix.crmf_template import CertId

_NULL = b"\x05\x00"


@frozen
class CertResponse:
    """
    What came of one request for a certificate (section 5.3.4).

    :ivar cert_req_id: as in the request; -1 for p10cr.
    :ivar certificate: DER, or ``None``.
    :ivar encrypted_cert: DER EncryptedKey with the certificate, instead.
    :ivar private_key: DER EncryptedKey with the key that was generated.
    """

    cert_req_id: int
    status: PKIStatusInfo
    certificate: bytes | None = field(default=None, repr=False)
    encrypted_cert: bytes | None = field(default=None, repr=False)
    private_key: bytes | None = field(default=None, repr=False)

    def der(self) -> bytes:
        """Return the CertResponse."""
        key_pair = b""
        if self.certificate is not None:
            key_pair = der.explicit(0, self.certificate)
        elif self.encrypted_cert is not None:
            key_pair = der.explicit(1, self.encrypted_cert)
        if key_pair and self.private_key is not None:
            key_pair += der.explicit(0, self.private_key)
        return der.sequence(
            der.integer(self.cert_req_id),
            self.status.der(),
            der.sequence(key_pair) if key_pair else b"",
        )


def cert_rep(
    body_type: str,
    responses: Sequence[CertResponse],
    ca_pubs: Sequence[bytes] = (),
) -> PKIBody:
    """
    Return the answer to requests for certificates.

    :param body_type: ``ip``, ``cp``, ``kup`` or ``ccp``.
    :param ca_pubs: DER of certificates that the client shall trust: see
        section 8.9 for when it may be told so.
    """
    return PKIBody(
        body_type,
        der.sequence(
            der.explicit(1, der.sequence(*ca_pubs)) if ca_pubs else b"",
            der.sequence(*(response.der() for response in responses)),
        ),
    )


def rev_rep(
    statuses: Sequence[PKIStatusInfo],
    cert_ids: Sequence[CertId] = (),
    crls: Sequence[bytes] = (),
) -> PKIBody:
    """
    Return the answer to a revocation request (section 5.3.10).

    :param statuses: one for each that was asked for, in that order.
    :param cert_ids: likewise, or none.
    :param crls: DER.
    """
    ids = [cert_id.der() for cert_id in cert_ids]
    return PKIBody(
        "rp",
        der.sequence(
            der.sequence(*(status.der() for status in statuses)),
            der.explicit(0, der.sequence(*ids)) if ids else b"",
            der.explicit(1, der.sequence(*crls)) if crls else b"",
        ),
    )


def gen_rep(items: Sequence[InfoTypeAndValue]) -> PKIBody:
    """Return the answer to a general message (section 5.3.20)."""
    return PKIBody("genp", der.sequence(*(item.der() for item in items)))


def pkiconf() -> PKIBody:
    """Return the end of a transaction (section 5.3.17)."""
    return PKIBody("pkiconf", _NULL)


@frozen
class PollResponse:
    """
    When to ask again (section 5.3.22).

    :ivar cert_req_id: -1 for the response as a whole.
    :ivar check_after: seconds.
    """

    cert_req_id: int
    check_after: int
    reason: tuple[str, ...] = ()

    def der(self) -> bytes:
        """Return one element of PollRepContent."""
        return der.sequence(
            der.integer(self.cert_req_id),
            der.integer(self.check_after),
            free_text(self.reason) if self.reason else b"",
        )


def poll_rep(responses: Sequence[PollResponse]) -> PKIBody:
    """Return the answer to a client that has to wait."""
    return PKIBody(
        "pollRep", der.sequence(*(response.der() for response in responses))
    )


def error(message: ErrorMsg) -> PKIBody:
    """Return an error message (section 5.3.21)."""
    return PKIBody(
        "error",
        der.sequence(
            message.status.der(),
            b"" if message.code is None else der.integer(message.code),
            free_text(message.details) if message.details else b"",
        ),
    )


def nested(messages: Sequence[bytes]) -> PKIBody:
    """
    Return whole messages inside one (section 5.1.3.5).

    :param messages: DER, in the order of the requests.
    """
    return PKIBody("nested", der.sequence(*messages))
