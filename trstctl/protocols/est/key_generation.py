# SPDX-License-Identifier: MIT
"""
A key that the gateway makes for a device (RFC 7030, section 4.4).

The request is as for ``/simpleenroll``, but the values of its public key and
its signature are ignored (section 4.4.1): type and size of the key are what
the device would like to have, where the profile allows them.

What can go wrong goes wrong before anything is promised: the key is made,
signed and encrypted once it is known who asks and that he may, and only then
certified.  It is held here until the answer is written, and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from attrs import evolve

from trstctl.errors import PolicyViolation, Stale, UnknownCertificate
from trstctl.interfaces import IRegistrationAuthority
from trstctl.key_maker import wished_key
from trstctl.model import (
    CertificateRequest,
    CertificateStatus,
    Endpoint,
    MadeKey,
    Purpose,
    SignatureProof,
)
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.key_package import (
    asymmetric_key_package,
    prepare_key_package,
    signed_data,
)
from trstctl.protocols.est.challenges import lasting_attributes
from trstctl.protocols.est.key_protection import (
    Recipients,
    read_protection,
)

#: What the part with the key is, bare and encrypted (section 4.4.2).
_BARE = "application/pkcs8"
_ENCRYPTED = "application/pkcs7-mime; smime-type=server-generated-key"


class NewKey:
    """
    The key that is made for one request.

    :param recipients: whom it can be encrypted to.
    :param client_certificate: DER; of the TLS session, whose key is proven.
    :param asked: the device's request.
    :ivar wanted: the same with the key to be made, of which there are type
        and size only.
    :ivar transaction: the same for whatever asks for the same.
    :ivar media_type: of the part with the key.
    :ivar octets: its content, once the key is made; secret.
    :raises Malformed: an attribute for its encryption is.
    :raises PolicyViolation: it has to be encrypted, and nobody says to whom.
    :raises TooLarge: likewise.
    :raises UnsupportedAlgorithm: no key of the profile is made here.
    """

    def __init__(
        self,
        ra: IRegistrationAuthority,
        endpoint: Endpoint,
        recipients: Recipients,
        client_certificate: bytes | None,
        asked: CertificateRequest,
    ) -> None:
        self._ra = ra
        self._endpoint = endpoint
        self._recipients = recipients
        self._client_certificate = client_certificate
        self._protection = read_protection(asked)
        if recipients.required and self._protection is None:
            raise PolicyViolation(
                endpoint.profile,
                "key-encryption",
                "a key that is made here is sent encrypted only: add a "
                "DecryptKeyIdentifier or an AsymmetricDecryptKeyIdentifier, "
                "and SMIMECapabilities, to the request",
            )
        wish = wished_key(ra.csr_attributes(endpoint), asked.public_key)
        self.wanted = evolve(
            asked,
            public_key=wish,
            proof=SignatureProof(
                "",
                "",
                asked.proof.signed,
                b"",
                kind="generated",
                accepted=True,
            ),
        )
        self.transaction = _transaction(self.wanted)
        self.media_type = _BARE
        self.octets = b""

    async def make(self) -> CertificateRequest:
        """
        Make the key and the part that it is sent in.

        :returns: what is wanted, with the key.
        :raises Malformed: it is to be encrypted to a key that nobody knows.
        :raises Stale: to one whose certificate has expired or was revoked.
        :raises UnsupportedAlgorithm: to one to which nothing can be, or may
            be, encrypted.
        :raises Unavailable: not now.
        """
        seal = await self._seal()
        wish = self.wanted.public_key
        made = await self._ra.key_maker.make(
            wish.algorithm, wish.bits, self._endpoint.tenant_id
        )
        self.octets = made.private_key
        if seal is not None:
            self.media_type = _ENCRYPTED
            self.octets = await seal(made)
        return evolve(self.wanted, public_key=made.public_key)

    async def _seal(self) -> Callable[[MadeKey], Awaitable[bytes]] | None:
        """
        Return what signs a key, as the party that made it, and encrypts it
        (section 4.4.2); ``None``: nobody asks for that.
        """
        if self._protection is None:
            return None
        certificate = self._recipients.certificate(
            self._protection, self._client_certificate, self._ra.now()
        )
        if certificate is not None:
            await self._refuse_revoked(certificate)
        encrypt = self._recipients.seal(
            self._protection, certificate, self._ra.random_bytes
        )
        now = self._ra.succession(self._endpoint)
        signer = await self._ra.credentials.get(now.authority, Purpose.KGA)

        async def seal(made: MadeKey) -> bytes:
            prepared = prepare_key_package(
                asymmetric_key_package(made.private_key, made.public_key.spki),
                certificate=signer.certificate,
                algorithm=signer.algorithm,
                certificates=(*signer.chain, *now.links),
                signing_time=self._ra.now(),
            )
            signature = await signer.sign(prepared.to_sign, prepared.algorithm)
            return encrypt(signed_data(prepared.finish(signature)))

        return seal

    async def _refuse_revoked(self, certificate: bytes) -> None:
        """
        Refuse a recipient whose certificate the tenant has revoked.

        Of others' certificates nobody here knows.
        """
        serial = read_certificate(certificate).serial
        try:
            record = await self._ra.find(self._endpoint.tenant_id, serial)
        except UnknownCertificate:
            return
        if record.der != certificate:
            return  # it has the same serial number, from elsewhere
        if record.status is CertificateStatus.REVOKED:
            raise Stale(
                "the certificate that the AsymmetricDecryptKeyIdentifier "
                "names has been revoked"
            )


def _transaction(wanted: CertificateRequest) -> str:
    """
    Return what is the same whenever the same is asked for.

    Whoever lost the answer may well make another key for the request, and
    another signature, both of which count for nothing; and what is of one
    TLS session is another in the next.
    """
    key = wanted.public_key
    signed = wanted.proof.signed
    subject = der.children(der.content(signed, der.SEQUENCE))[1][2]
    parts = (
        subject,
        f"{key.algorithm} {key.bits}".encode("ascii"),
        *lasting_attributes(signed),
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:%s" % (len(part), part))
    return digest.hexdigest()
