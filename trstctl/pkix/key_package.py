# SPDX-License-Identifier: MIT
"""
Keys and certificates on their way to their owner (RFC 9810, section 5.2.2).

A key that the gateway has generated goes through four layers (RFC 9483,
section 4.1.6): AsymmetricKeyPackage (RFC 5958), signed by a credential with
cmKGA as its purpose, encrypted to the owner, inside an EncryptedKey:

1. :func:`asymmetric_key_package` and :func:`prepare_key_package`, then the
   signature, then :meth:`PreparedSignedData.finish`;
2. :func:`signed_data` of that, as the content, of type id-signedData, of
   :func:`trstctl.pkix.enveloping.envelope` (an RSA key),
   :func:`trstctl.pkix.agreement.envelope_by_agreement` (an EC key) or
   :func:`trstctl.pkix.enveloping.envelope_for_password`;
3. :func:`encrypted_key` of that.

A certificate whose key cannot sign takes the last two steps only, as content
of type id-data.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from trstctl.errors import Malformed
from trstctl.pkix import der
from trstctl.pkix.cms import ENVELOPED_DATA, SIGNED_DATA, read_content_info
from trstctl.pkix.signing import PreparedSignedData, prepare_signed

#: id-ct-KP-aKeyPackage (RFC 5958, section 2).
KEY_PACKAGE = "2.16.840.1.101.2.1.2.78.5"

_PUBLIC_KEY_TAG = 0x81
_ENVELOPED_DATA_TAG = 0xA0


def asymmetric_key_package(private_key: bytes, spki: bytes) -> bytes:
    """
    Return an AsymmetricKeyPackage with one key and its public key.

    :param private_key: DER PrivateKeyInfo (PKCS #8, RFC 5208); secret.
    :param spki: DER SubjectPublicKeyInfo.
    :raises Malformed: they are none.
    """
    parts = der.children(der.content(private_key, der.SEQUENCE))
    public = der.children(der.content(spki, der.SEQUENCE))
    if [part[0] for part in parts[:3]] != [
        der.INTEGER,
        der.SEQUENCE,
        der.OCTET_STRING,
    ] or [part[0] for part in public] != [der.SEQUENCE, der.BIT_STRING]:
        raise Malformed("not a key pair")
    # RFC 5958, section 2: version 2, as the public key is there.
    return der.sequence(
        der.sequence(
            der.integer(1),
            parts[1][2],
            parts[2][2],
            der.tlv(_PUBLIC_KEY_TAG, public[1][1]),
        )
    )


def prepare_key_package(
    package: bytes,
    *,
    certificate: bytes,
    algorithm: str,
    certificates: Sequence[bytes],
    signing_time: datetime | None = None,
) -> PreparedSignedData:
    """
    Put a signed key package together, all but its signature.

    :param package: what :func:`asymmetric_key_package` returned; secret, as
        is what comes of this.
    :param certificate: DER of the signer's.
    :param algorithm: a name of :mod:`trstctl.pkix.algorithms`.
    :param certificates: the signer's and its chain.
    :param signing_time: aware; added as an attribute.
    :raises UnsupportedAlgorithm: none that CMS knows a digest for.
    """
    return prepare_signed(
        package,
        certificate=certificate,
        algorithm=algorithm,
        attributes={},
        content_type=KEY_PACKAGE,
        certificates=certificates,
        signing_time=signing_time,
        by_key=True,
    )


def signed_data(message: bytes) -> bytes:
    """
    Return the SignedData of a ContentInfo of ours.

    :raises Malformed: it is none.
    """
    return der.tlv(der.SEQUENCE, read_content_info(message, SIGNED_DATA))


def encrypted_key(message: bytes) -> bytes:
    """
    Return an EncryptedKey (RFC 9810, section 5.2.2).

    :param message: a ContentInfo with an EnvelopedData of ours.
    :raises Malformed: it is none.
    """
    return der.tlv(
        _ENVELOPED_DATA_TAG, read_content_info(message, ENVELOPED_DATA)
    )
