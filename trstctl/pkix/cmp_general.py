# SPDX-License-Identifier: MIT
"""
What general messages of CMP ask for and tell (RFC 9810, section 5.3.19).

Reading: what a client puts into a genm.  Writing: what a gateway answers
with in a genp, one function for each type.  A client may ask for a type with
or without a value: :data:`REQUEST_VALUES` says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import frozen

from trstctl.errors import Malformed
from trstctl.model import GeneralName, Name
from trstctl.pkix import der
from trstctl.pkix.algorithms import ALGORITHMS
from trstctl.pkix.cmp_itav import INFO_TYPES, InfoTypeAndValue
from trstctl.pkix.cmp_status import free_text, read_free_text
from trstctl.pkix.crmf import CONTROLS
from trstctl.pkix.crmf_template import CertTemplate, read_directory_name
from trstctl.pkix.names import read_general_names
from trstctl.pkix.times import read_time

#: What a genm may ask for, and whether a value must be there (``True``),
#: must not (``False``) or may (``None``).
REQUEST_VALUES: Mapping[str, bool | None] = {
    "caProtEncCert": False,
    "signKeyPairTypes": False,
    "encKeyPairTypes": False,
    "preferredSymmAlg": False,
    "currentCRL": False,
    "keyPairParamReq": True,
    "revPassphrase": True,
    "suppLangTags": True,
    "caCerts": False,
    "certReqTemplate": False,
    "rootCaCert": None,
    "crlStatusList": True,
    "KemCiphertextInfo": False,
}

# --- reading ----------------------------------------------------------------

_DPN = 0xA0
_ISSUER = 0xA1
_FULL_NAME = 0xA0
_RELATIVE_NAME = 0xA1


@frozen
class CRLStatus:
    """
    Which CRL a client has (section 5.3.19.17).

    :ivar names: the full name of its distribution point; empty if it is
        named otherwise.
    :ivar issuers: names of the CA that issued it; likewise.
    :ivar this_update: of the one that the client has, or ``None``.
    """

    names: tuple[GeneralName, ...]
    issuers: tuple[Name, ...]
    this_update: datetime | None


def read_crl_status_list(value: bytes) -> tuple[CRLStatus, ...]:
    """
    Read a CRLStatusListValue.

    :param value: DER, already seen by :func:`trstctl.pkix.der.check`;
        likewise in the other readers.
    :raises Malformed: it is none, or is empty.
    :raises TooLarge: too many names.
    """
    parts = der.children(der.content(value, der.SEQUENCE))
    if not parts or any(part[0] != der.SEQUENCE for part in parts):
        raise Malformed("the list of CRLs is malformed")
    return tuple(_read_crl_status(content) for _, content, _ in parts)


def _read_crl_status(content: bytes) -> CRLStatus:
    """Read a CRLStatus."""
    source, *when = der.children(content) or [(0, b"", b"")]
    inner = der.children(source[1])
    if len(inner) != 1 or len(when) > 1:
        raise Malformed("the list of CRLs is malformed")
    ((tag, names, whole),) = inner
    full: tuple[GeneralName, ...] = ()
    issuers: list[Name] = []
    if source[0] == _DPN and tag in {_FULL_NAME, _RELATIVE_NAME}:
        if tag == _FULL_NAME:
            full = read_general_names(der.tlv(der.SEQUENCE, names))
    elif source[0] == _ISSUER:
        for part in der.children(der.content(whole, der.SEQUENCE)):
            name = read_directory_name(part)
            if name is not None:
                issuers.append(name)
    else:
        raise Malformed("the list of CRLs is malformed")
    return CRLStatus(
        full, tuple(issuers), read_time(*when[0][:2]) if when else None
    )


def read_language_tags(value: bytes) -> tuple[str, ...]:
    """
    Read a SuppLangTagsValue (section 5.3.19.13).

    :raises Malformed: it is none, or is empty.
    """
    return read_free_text(der.content(value, der.SEQUENCE))


def read_root_ca_cert(value: bytes) -> bytes:
    """
    Return the DER of a RootCaCertValue, unread (section 5.3.19.15).

    :raises Malformed: it can be no certificate.
    """
    der.content(value, der.SEQUENCE)
    return value


def read_algorithm(value: bytes) -> str:
    """
    Return the dotted form of a KeyPairParamReqValue (section 5.3.19.8).

    :raises Malformed: it is none.
    """
    return der.oid_text(der.content(value, der.OBJECT_IDENTIFIER))


# --- writing ----------------------------------------------------------------


def _item(name: str, value: bytes | None) -> InfoTypeAndValue:
    """Return an InfoTypeAndValue by the name of its type."""
    return InfoTypeAndValue(INFO_TYPES[name], value)


def _sequence_or_none(values: Sequence[bytes]) -> bytes | None:
    """Return a SEQUENCE; nothing to tell is an absent value."""
    return der.sequence(*values) if values else None


def ca_prot_enc_cert(certificate: bytes | None) -> InfoTypeAndValue:
    """Tell a certificate to encrypt to (section 5.3.19.1)."""
    return _item("caProtEncCert", certificate)


def sign_key_pair_types(identifiers: Sequence[bytes]) -> InfoTypeAndValue:
    """Tell which signature keys are certified (section 5.3.19.2)."""
    return _item("signKeyPairTypes", _sequence_or_none(identifiers))


def enc_key_pair_types(identifiers: Sequence[bytes]) -> InfoTypeAndValue:
    """Tell which encryption keys are certified (section 5.3.19.3)."""
    return _item("encKeyPairTypes", _sequence_or_none(identifiers))


def preferred_symm_alg(identifier: bytes) -> InfoTypeAndValue:
    """Tell what to encrypt with (section 5.3.19.4)."""
    return _item("preferredSymmAlg", identifier)


def current_crl(crl: bytes | None) -> InfoTypeAndValue:
    """Tell the newest CRL (section 5.3.19.6)."""
    return _item("currentCRL", crl)


def unsupported_oids(oids: Sequence[str]) -> InfoTypeAndValue:
    """Tell which types are not served (section 5.3.19.7)."""
    return _item("unsupportedOIDs", _sequence_or_none([*map(der.oid, oids)]))


def key_pair_param_rep(identifier: bytes | None) -> InfoTypeAndValue:
    """Tell an algorithm's parameters (section 5.3.19.8)."""
    return _item("keyPairParamRep", identifier)


def supp_lang_tags(tag: str) -> InfoTypeAndValue:
    """Tell which language is used (section 5.3.19.13)."""
    return _item("suppLangTags", free_text((tag,)))


def ca_certs(certificates: Sequence[bytes]) -> InfoTypeAndValue:
    """Tell the certificates of the CAs (section 5.3.19.14)."""
    return _item("caCerts", _sequence_or_none(certificates))


def root_ca_key_update(
    new_with_new: bytes | None,
    new_with_old: bytes | None = None,
    old_with_new: bytes | None = None,
) -> InfoTypeAndValue:
    """
    Tell the next root (section 5.3.19.15).

    :param new_with_new: ``None`` if there is none.
    """
    if new_with_new is None:
        return _item("rootCaKeyUpdate", None)
    return _item(
        "rootCaKeyUpdate",
        der.sequence(
            new_with_new,
            b"" if new_with_old is None else der.explicit(0, new_with_old),
            b"" if old_with_new is None else der.explicit(1, old_with_new),
        ),
    )


def cert_req_template(
    template: CertTemplate | None,
    key_algorithms: Sequence[bytes] = (),
    rsa_lengths: Sequence[int] = (),
) -> InfoTypeAndValue:
    """
    Tell what a request should look like (section 5.3.19.16).

    :param template: without a key; ``None`` if there is no wish.
    :param key_algorithms: DER AlgorithmIdentifiers, not of RSA keys.
    :param rsa_lengths: bits of a modulus.
    """
    if template is None:
        return _item("certReqTemplate", None)
    algorithm = der.oid(CONTROLS["algId"])
    length = der.oid(CONTROLS["rsaKeyLen"])
    wishes = [
        *(der.sequence(algorithm, each) for each in key_algorithms),
        *(der.sequence(length, der.integer(bits)) for bits in rsa_lengths),
    ]
    return _item(
        "certReqTemplate",
        der.sequence(template.der(), _sequence_or_none(wishes) or b""),
    )


def crls(found: Sequence[bytes]) -> InfoTypeAndValue:
    """Tell the CRLs that are newer (section 5.3.19.17)."""
    return _item("crls", _sequence_or_none(found))


# --- keys -------------------------------------------------------------------

_EC = der.oid("1.2.840.10045.2.1")

#: AlgorithmIdentifiers of subject public keys, by the names that
#: :class:`trstctl.model.PublicKey` has for them.
KEY_ALGORITHMS: Mapping[str, bytes] = {
    "rsa": der.sequence(der.oid("1.2.840.113549.1.1.1"), b"\x05\x00"),
    "p-256": der.sequence(_EC, der.oid("1.2.840.10045.3.1.7")),
    "p-384": der.sequence(_EC, der.oid("1.3.132.0.34")),
    "p-521": der.sequence(_EC, der.oid("1.3.132.0.35")),
    # Their keys and signatures have the same identifier.
    **{
        name: algorithm.identifier
        for name, algorithm in ALGORITHMS.items()
        if algorithm.digest == "none"
    },
}
_KEY_NAMES = {identifier: name for name, identifier in KEY_ALGORITHMS.items()}


def key_algorithm(identifier: bytes) -> str | None:
    """
    Name the algorithm of a key that a template asks for.

    :param identifier: DER AlgorithmIdentifier.
    :returns: a name of :data:`KEY_ALGORITHMS`, or ``None``.
    """
    return _KEY_NAMES.get(identifier)
