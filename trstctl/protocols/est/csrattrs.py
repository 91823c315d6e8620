# SPDX-License-Identifier: MIT
"""
CSR attributes: what a client is told to put into its request.

Implemented: CsrAttrs of RFC 7030, section 4.5.2, as RFC 8951, section 4,
gives it, in three forms:

``classic``
    OIDs, and the key type, as RFC 8951 has them;
``extensions``
    also one id-ExtensionReq with the values of what will be issued (RFC
    9908, section 3.2);
``template``
    also a CertificationRequestInfoTemplate (RFC 9908, section 3.4).  A client
    that knows it ignores the rest; for one that does not, there is the rest.

Only what every request must have is asked for: a key type or a hash is named
if the profile accepts no other.  :func:`missing` says what of all that a
request has not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import field, frozen

from trstctl.model import (
    CertificateRequest,
    CSRWishes,
    Extension,
    NameAttribute,
)
from trstctl.pkix import der
from trstctl.pkix.algorithms import ALGORITHMS
from trstctl.pkix.csr import EXTENSION_REQUEST
from trstctl.pkix.extensions import SUBJECT_ALTERNATIVE_NAME
from trstctl.pkix.names import (
    SHORT_NAMES,
    attribute_values,
    encode_name,
    string_tag,
)

TEMPLATE = "1.2.840.113549.1.9.16.2.61"
EXTENSION_TEMPLATE = "1.2.840.113549.1.9.16.2.62"

EC_PUBLIC_KEY = "1.2.840.10045.2.1"
RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
_CURVES = {
    "p-256": "1.2.840.10045.3.1.7",
    "p-384": "1.3.132.0.34",
    "p-521": "1.3.132.0.35",
}
_OTHER_KEYS = {
    "ed25519": "1.3.101.112",
    "ed448": "1.3.101.113",
    "ml-dsa-44": "2.16.840.1.101.3.4.3.17",
    "ml-dsa-65": "2.16.840.1.101.3.4.3.18",
    "ml-dsa-87": "2.16.840.1.101.3.4.3.19",
}
_ECDSA_WITH = {
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}
_RSA_WITH = {
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
}
_NULL = b"\x05\x00"


@frozen
class CSRAttribute:
    """
    One Attribute of CsrAttrs.

    :ivar values: DER of each.
    """

    oid: str
    values: tuple[bytes, ...] = field(repr=False)


#: AttrOrOID.
Item = str | CSRAttribute


# --- the structure ----------------------------------------------------------


def encode_csr_attributes(items: Sequence[Item]) -> bytes:
    """Return the DER CsrAttrs; empty if there is nothing to ask for."""
    if not items:
        return b""
    return der.sequence(
        *(
            der.oid(item)
            if isinstance(item, str)
            else der.sequence(der.oid(item.oid), der.set_of(*item.values))
            for item in items
        )
    )


# --- what is asked for ------------------------------------------------------


def advertised(
    wishes: CSRWishes, form: str = "classic", links: Sequence[str] = ()
) -> tuple[Item, ...]:
    """
    Return what a client is told.

    :param form: ``classic``, ``extensions`` or ``template``.
    :param links: OIDs of the attributes that link a request to its session,
        where one of them is required.
    """
    items: list[Item] = [*links, *wishes.subject_attributes]
    if form == "classic":
        if wishes.extensions:
            items.append(EXTENSION_REQUEST)
    else:
        items += wishes.extensions
        if wishes.issued:
            value = der.sequence(*map(_extension, wishes.issued))
            items.append(CSRAttribute(EXTENSION_REQUEST, (value,)))
    if len(wishes.algorithms) == 1:
        items += _key_items(wishes.algorithms[0], wishes.digests, form)
    if form == "template":
        template = _template(wishes)
        if template:
            items.append(CSRAttribute(TEMPLATE, (template,)))
    return tuple(items)


def _key_items(
    algorithm: str, digests: Sequence[str], form: str
) -> list[Item]:
    """Return the key type and, if there is one choice, the signature."""
    key: Item
    if algorithm in _CURVES:
        key = CSRAttribute(EC_PUBLIC_KEY, (der.oid(_CURVES[algorithm]),))
    elif algorithm.startswith("rsa-"):
        size = der.integer(int(algorithm[4:]))
        key = CSRAttribute(RSA_ENCRYPTION, (size,))
    else:
        # A plugin's policy may know keys that have no one OID.
        known = RSA_ENCRYPTION if algorithm == "rsa" else ""
        known = _OTHER_KEYS.get(algorithm, known)
        if not known:
            return []
        # RFC 9908, section 3.2: an attribute, its values empty where all
        # keys of the type will do.  An Attribute of RFC 8951 has at least
        # one value, so that there it is the OID.
        key = known if form == "classic" else CSRAttribute(known, ())
    signature = _signature(algorithm, digests)
    return [key, signature] if signature else [key]


def _signature(algorithm: str, digests: Sequence[str]) -> str | None:
    """Return the OID of the only signature that is accepted."""
    if algorithm in _OTHER_KEYS:
        return None  # they sign in one way only
    signatures = _ECDSA_WITH if algorithm in _CURVES else _RSA_WITH
    return signatures.get(digests[0]) if len(digests) == 1 else None


def _extension(extension: Extension) -> bytes:
    """Return an Extension, or an ExtensionTemplate with a value."""
    return der.sequence(
        der.oid(extension.oid),
        der.boolean(True) if extension.critical else b"",
        der.octet_string(extension.value),
    )


# --- the template -----------------------------------------------------------


def _template(wishes: CSRWishes) -> bytes:
    """Return the CertificationRequestInfoTemplate; empty if it is blank."""
    subject = _name_template(wishes)
    key = b""
    if len(wishes.algorithms) == 1:
        key = _key_template(wishes.algorithms[0])
    attributes = _template_attributes(wishes)
    if not (subject or key or attributes):
        return b""
    return der.sequence(
        der.integer(0), subject, key, der.tlv(0xA1, attributes)
    )


def _name_template(wishes: CSRWishes) -> bytes:
    """Return the NameTemplate: the client fills in what has no value."""
    fixed = dict(wishes.fixed)
    rdns = [
        der.set_of(der.sequence(der.oid(oid)))
        for oid in wishes.subject_attributes
        if oid not in fixed
    ]
    for oid, value in fixed.items():
        name = encode_name(((NameAttribute(oid, value, string_tag(oid)),),))
        rdns.append(der.content(name, der.SEQUENCE))
    return der.sequence(*rdns) if rdns else b""


def _key_template(algorithm: str) -> bytes:
    """
    Return the SubjectPublicKeyInfoTemplate.

    An RSA key of the wanted size stands for the size; it is nobody's.
    """
    placeholder = b""
    if algorithm in _CURVES:
        identifier = der.oid(EC_PUBLIC_KEY) + der.oid(_CURVES[algorithm])
    elif algorithm.startswith("rsa"):
        identifier = der.oid(RSA_ENCRYPTION) + _NULL
        if algorithm != "rsa":
            modulus = (1 << int(algorithm[4:])) - 1
            placeholder = der.bit_string(
                der.sequence(der.integer(modulus), der.integer(65537))
            )
    elif algorithm in _OTHER_KEYS:
        identifier = der.oid(_OTHER_KEYS[algorithm])
    else:
        return b""
    return der.tlv(0xA0, der.sequence(identifier) + placeholder)


def _template_attributes(wishes: CSRWishes) -> bytes:
    """
    Return the template's attributes: one kind of extension request.

    One without a value for the client to fill in must be of the second kind,
    and never both may be there (RFC 9908, section 3.4).
    """
    blank = [der.sequence(der.oid(oid)) for oid in wishes.extensions]
    given = list(map(_extension, wishes.issued))
    if not (blank or given):
        return b""
    return der.sequence(
        der.oid(EXTENSION_TEMPLATE if blank else EXTENSION_REQUEST),
        der.set_of(der.sequence(*blank, *given)),
    )


# --- what a request has of it -----------------------------------------------


def missing(
    wishes: CSRWishes, form: str, wanted: CertificateRequest
) -> list[str]:
    """
    Name what was asked for in this form, and what a request has not.

    The link to the session is judged elsewhere, once it is known who asks.
    What is fixed will be issued in any case, and who does not know templates
    does not learn it; so it may be left out, but not be another.
    """
    lacking = [
        f"the subject attribute {SHORT_NAMES.get(oid, oid)}"
        for oid in wishes.subject_attributes
        if not attribute_values(wanted.subject, oid)
    ]
    if form == "template":
        lacking += [
            f"the subject attribute {SHORT_NAMES[oid]} as it was told"
            for oid, value in wishes.fixed
            if attribute_values(wanted.subject, oid) not in ([], [value])
        ]
    present = {each.oid: each.value for each in wanted.extensions}
    lacking += [
        f"the extension {_extension_name(oid)}"
        for oid in wishes.extensions
        if oid not in present
    ]
    if form != "classic":
        lacking += [
            f"the extension {_extension_name(each.oid)} as it was told"
            for each in wishes.issued
            if present.get(each.oid) != each.value
        ]
    # Where the gateway makes the key, it makes the right one.
    if len(wishes.algorithms) == 1 and wanted.public_key.spki:
        lacking += _lacking_key(wishes.algorithms[0], wishes.digests, wanted)
    return lacking


def _lacking_key(
    algorithm: str, digests: Sequence[str], wanted: CertificateRequest
) -> Iterable[str]:
    """Name the key and the signature, if they are others."""
    key = wanted.public_key
    kinds = {key.algorithm}
    if key.algorithm == "rsa":
        kinds.add(f"rsa-{key.bits}")
    if algorithm not in kinds:
        yield f"a key of type {algorithm}"
        return
    signature = _signature(algorithm, digests)
    known = ALGORITHMS.get(wanted.proof.algorithm)
    if signature and (known is None or known.oid != signature):
        yield f"a signature with {digests[0]}, as it was told"


def _extension_name(oid: str) -> str:
    """Return what a device engineer knows an extension by."""
    return _EXTENSION_NAMES.get(oid, oid)


_EXTENSION_NAMES = {
    SUBJECT_ALTERNATIVE_NAME: "subjectAltName",
    "2.5.29.15": "keyUsage",
    "2.5.29.32": "certificatePolicies",
    "2.5.29.37": "extendedKeyUsage",
}
