# SPDX-License-Identifier: MIT
"""
A renewal that is signed: the device's proof where no handshake can give it.

Where TLS ends in front of the gateway, nobody here sees the client's
certificate.  So the device signs its certification request with the key of
the current certificate: a CMS SignedData (RFC 5652, section 5) whose content
is the DER request, as plain ``openssl cms -sign -binary -nodetach`` makes it.

It counts as much as a handshake, because

- the signature covers the request (by messageDigest), so that it is good for
  no other key and no other name;
- it must be fresh: signingTime is compulsory and at most five minutes from
  our clock.  Whoever repeats it before that gets what was made of it before,
  and at another endpoint nothing: the request is its own idempotency key.

The certificate is looked up in the inventory before the signature is looked
at, so that only keys which a profile has allowed are computed with.  What
else is wrong with it, the registration authority finds out, as always.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from attrs import field, frozen

from trstctl.errors import (
    Malformed,
    NotAuthenticated,
    UnknownCertificate,
)
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import ClientCertificate, Endpoint
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cms import DATA
from trstctl.pkix.signed import (
    SignedData,
    SignerInfo,
    read_signed_data,
    signing_time,
    verify_signer,
)

#: How far signingTime may be from our clock, either way.
FRESH = timedelta(minutes=5)


@frozen
class SignedRequest:
    """
    A signed certification request of which nothing is verified.

    :ivar csr: what should be the DER of a request.
    :ivar certificate: DER of the signer's.
    :ivar serial: the signer's, as the inventory has it.
    """

    csr: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    serial: str
    _spki: bytes = field(repr=False)
    _signed_at: datetime
    _message: SignedData = field(repr=False)
    _signer: SignerInfo = field(repr=False)

    @property
    def idempotency_key(self) -> str:
        """
        What makes copies of it one request, wherever they are sent.

        It is remembered for longer than the message is fresh.  A key that
        the sender names would be nobody's: it is not signed.
        """
        return f"cms:{hashlib.sha256(self.csr).hexdigest()}"

    async def prove(
        self, ra: IRegistrationAuthority, endpoint: Endpoint
    ) -> ClientCertificate:
        """
        Prove that the key of a certificate of the endpoint's tenant signed.

        Whether the certificate is still good is for others to say.

        :raises NotAuthenticated: there is no such certificate, or the
            message is not fresh.
        :raises UnsupportedAlgorithm: SHA-1, say.
        :raises MessageCheckFailed: the signature does not verify.
        """
        try:
            record = await ra.find(endpoint.tenant_id, self.serial)
        except UnknownCertificate:
            raise NotAuthenticated from None
        if record.der != self.certificate:
            raise NotAuthenticated
        verify_signer(self._message, self._signer, self._spki)
        # Told only to who has the key, or what it has signed.
        if abs(ra.now() - self._signed_at) > FRESH:
            minutes = FRESH.seconds // 60
            raise NotAuthenticated(
                f"the signing time is more than {minutes} minutes from now; "
                "set the clock (see the Date field), and sign anew"
            )
        return ClientCertificate(self.certificate)


def read_signed_request(data: bytes) -> SignedRequest:
    """
    Read what ``openssl cms -sign -binary -nodetach`` makes of a request.

    :param data: DER; or BER, which some write.
    :raises TooLarge: it has more parts than anybody needs.
    :raises Malformed: anything else that is wrong with it.
    """
    message = read_signed_data(data)
    (signer,) = message.signers
    if message.content_type != DATA or message.content is None:
        raise Malformed("the cms does not contain the request; use -nodetach")
    if signer.certificate is None:
        raise Malformed("the cms does not contain the signer's certificate")
    signed_at = signing_time(signer)
    if signed_at is None:
        raise Malformed("the cms has no signing time")
    facts = read_certificate(signer.certificate)
    return SignedRequest(
        message.content,
        signer.certificate,
        facts.serial,
        facts.public_key.spki,
        signed_at,
        message,
        signer,
    )
