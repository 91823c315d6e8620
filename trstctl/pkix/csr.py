# SPDX-License-Identifier: MIT
"""
PKCS #10 certification requests (RFC 2986, RFC 2985): bytes to value.

Theory of operation.  There is one boundary, :func:`read_csr`:

1. The octets are capped and walked (:mod:`trstctl.pkix.der`), so that no
   parser below can be made to run long or deep.
2. The ``cryptography`` library decodes the whole against the schema of
   RFC 2986: version, name, key, attributes and signature have their types.
3. Our own readers take every field out at once, and walk and read what lies
   inside OCTET STRINGs.  The library's lazy properties are not used: they
   fail late, warn about peers' text, merge both kinds of extension request
   and keep no string types.  Nothing of the library's object survives.
4. Whatever goes wrong becomes one ``Malformed`` or ``TooLarge`` with a
   fixed text.

Implemented: extensionRequest of PKCS #9 and Microsoft's twin of it,
challengePassword in every string type, ChangeSubjectName (RFC 6402), all
other attributes as DER.  Faults that devices in the field are known for are
forgiven where a caller asks for it; see :mod:`trstctl.pkix.mending`.
Refused: any attribute type or extension that occurs twice, extension
requests of both kinds at once, more than 1000 alternative names.
"""

from __future__ import annotations

import binascii

from cryptography import x509

from trstctl.errors import (
    Malformed,
    ProofOfPossessionFailed,
    RequestError,
    UnsupportedAlgorithm,
)
from trstctl.model import (
    CertificateRequest,
    Extension,
    GeneralName,
    Name,
    NameChange,
    SignatureProof,
)
from trstctl.pkix import algorithms, der
from trstctl.pkix.extensions import (
    SUBJECT_ALTERNATIVE_NAME,
    read_extensions,
)
from trstctl.pkix.mending import mend
from trstctl.pkix.names import read_general_names, read_name, read_text

EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
MICROSOFT_EXTENSION_REQUEST = "1.3.6.1.4.1.311.2.1.14"
CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"  # noqa: S105  an OID

#: id-aa-otpChallenge (RFC 7894, section 3.1).
OTP_CHALLENGE = "1.2.840.113549.1.9.16.2.56"

#: id-aa-revocationChallenge (RFC 7894, section 3.2).
REVOCATION_CHALLENGE = "1.2.840.113549.1.9.16.2.57"
CHANGE_SUBJECT_NAME = "1.3.6.1.5.5.7.7.36"


def read_csr(
    data: bytes,
    *,
    max_bytes: int = 65536,
    lenient: bool = False,
    keyless: bool = False,
) -> CertificateRequest:
    """
    Read a certification request.  Its signature is not looked at here.

    :param data: DER.
    :param lenient: forgive the faults of :mod:`trstctl.pkix.mending`.
    :param keyless: its key has no value, or need not have one (RFC 7030,
        section 4.4.1).
    :raises TooLarge: more than ``max_bytes``, or too many names.
    :raises Malformed: anything else that is wrong with it.
    """
    try:
        return _read(data, max_bytes, lenient, keyless)
    except RequestError:
        raise
    except Exception as error:
        raise Malformed("not a PKCS #10 certification request") from error


def _read(
    data: bytes, max_bytes: int, lenient: bool, keyless: bool
) -> CertificateRequest:
    """Read a request; may fail with any exception."""
    der.check(data, max_bytes=max_bytes)
    forgiven = _check_schema(data, lenient)
    information, identifier, signature = der.children(
        der.content(data, der.SEQUENCE)
    )
    _, subject, spki, *attribute_set = der.children(information[1])
    attributes = _read_attributes(
        attribute_set[0][1] if attribute_set else b""
    )
    extensions = _take_extensions(attributes)
    algorithm, digest, parameters = algorithms.read_algorithm_identifier(
        identifier[2]
    )
    describe = (
        algorithms.describe_key_type
        if keyless
        else algorithms.describe_public_key
    )
    if signature[1][0]:
        raise Malformed("the signature is not whole octets")
    return CertificateRequest(
        der=data,
        subject=read_name(subject[2]),
        public_key=describe(spki[2]),
        names=_alternative_names(extensions),
        extensions=extensions,
        proof=SignatureProof(
            algorithm,
            digest,
            signed=information[2],
            signature=signature[1][1:],
            parameters=parameters,
        ),
        challenge_password=_take_challenge_password(attributes),
        change=_take_name_change(attributes),
        attributes=attributes,
        forgiven=forgiven,
    )


def _check_schema(data: bytes, lenient: bool) -> tuple[str, ...]:
    """Decode against the schema; return the faults that were forgiven."""
    try:
        x509.load_der_x509_csr(data)
    except ValueError:
        if not lenient:
            raise
        mended, forgiven = mend(data)
        x509.load_der_x509_csr(mended)
        return forgiven
    return ()


def _read_attributes(attribute_set: bytes) -> dict[str, tuple[bytes, ...]]:
    """Return the DER of the values of each attribute."""
    attributes: dict[str, tuple[bytes, ...]] = {}
    for _, attribute, _ in der.children(attribute_set):
        kind, values = der.children(attribute)
        oid = der.oid_text(kind[1])
        # The library would take the first one of them.
        if oid in attributes:
            raise Malformed("an attribute occurs twice")
        if not values[1]:  # RFC 2986, section 4.1: SET SIZE(1..MAX)
            raise Malformed("an attribute without a value")
        attributes[oid] = tuple(value[2] for value in der.children(values[1]))
    return attributes


def _take_extensions(
    attributes: dict[str, tuple[bytes, ...]],
) -> tuple[Extension, ...]:
    """Remove the extension request from the attributes and read it."""
    standard = attributes.pop(EXTENSION_REQUEST, None)
    microsoft = attributes.pop(MICROSOFT_EXTENSION_REQUEST, None)
    if standard is not None and microsoft is not None:
        raise Malformed("two kinds of extension request")
    values = standard or microsoft
    if values is None:
        return ()
    # RFC 2985, section 5.4.2: SINGLE VALUE TRUE.
    if len(values) != 1:
        raise Malformed("an extension request with more than one value")
    return read_extensions(values[0])


def _alternative_names(
    extensions: tuple[Extension, ...],
) -> tuple[GeneralName, ...]:
    """Return the requested subject alternative names."""
    for extension in extensions:
        if extension.oid == SUBJECT_ALTERNATIVE_NAME:
            return read_general_names(extension.value)
    return ()


def _take_challenge_password(
    attributes: dict[str, tuple[bytes, ...]],
) -> str | None:
    """Remove the challenge password from the attributes and read it."""
    values = attributes.pop(CHALLENGE_PASSWORD, None)
    if values is None:
        return None
    # RFC 2985, section 5.4.1: SINGLE VALUE TRUE.
    if len(values) != 1:
        raise Malformed("a challenge password with more than one value")
    tag, text, _ = der.children(values[0])[0]
    return read_text(tag, text)


def _take_name_change(
    attributes: dict[str, tuple[bytes, ...]],
) -> NameChange | None:
    """
    Remove ChangeSubjectName from the attributes and read it.

    Both of its fields are a SEQUENCE without a tag of its own, and may be
    absent; what is in them tells them apart.  What is absent is removed from
    the certificate (RFC 6402, section 2.8).
    """
    values = attributes.pop(CHANGE_SUBJECT_NAME, None)
    if values is None:
        return None
    if len(values) != 1:
        raise Malformed("a ChangeSubjectName with more than one value")
    fields = der.children(der.content(values[0], der.SEQUENCE))
    subject: Name = ()
    names: tuple[GeneralName, ...] = ()
    # At least one of the fields MUST be present.
    if not 1 <= len(fields) <= 2:
        raise Malformed("a ChangeSubjectName without a name")
    if len(fields) == 2 or not _holds_general_names(fields[0][1]):
        subject = read_name(fields.pop(0)[2])
    if fields:
        names = read_general_names(fields[0][2])
    return NameChange(subject, names)


def _holds_general_names(content: bytes) -> bool:
    """Tell GeneralNames, whose tags are context-specific, from a Name."""
    return content[:1] >= b"\x80"


#: Attributes that nobody needs once a request is proven.
_SECRETS = frozenset({CHALLENGE_PASSWORD, OTP_CHALLENGE, REVOCATION_CHALLENGE})

#: The letter x in the character strings with several octets to each.
_WIDE_LETTERS = {28: b"\0\0\0x", 30: b"\0x"}


def without_challenge(request: CertificateRequest) -> bytes:
    """
    Return a request as it may be kept: a challenge password is a secret, and
    so are a one-time password and a revocation challenge (RFC 7894, sections
    3.1 and 3.2) and some controls of CRMF.

    :returns: the request's DER, with each character of them replaced by
        ``x``.  Its signature does not verify any more; beside a revocation
        challenge, which somebody may have thought up, it is blanked, too:
        it would tell a right guess from a wrong one.
    """
    if request.kept is not None:
        return request.kept
    if request.challenge_password is None and _SECRETS.isdisjoint(
        request.attributes
    ):
        return request.der
    kept = request.der
    information = der.children(der.content(kept, der.SEQUENCE))[0]
    found = False
    for _, attribute, whole in der.children(
        der.children(information[1])[3][1]
    ):
        kind, values = der.children(attribute)
        if der.oid_text(kind[1]) in _SECRETS:
            found = True
            blank = der.set_of(*map(_blank, der.children(values[1])))
            kept = kept.replace(whole, der.sequence(kind[2], blank), 1)
    if not found:
        return b""  # it came in another form than this
    if REVOCATION_CHALLENGE in request.attributes:
        octets = len(request.proof.signature)
        kept = kept[: len(kept) - octets] + bytes(octets)
    return kept


def _blank(value: tuple[int, bytes, bytes]) -> bytes:
    """Return a string of the same type and length that says nothing."""
    tag, text, _ = value
    if tag & 0x20:
        tag = der.OCTET_STRING  # it should have been a string
    letter = _WIDE_LETTERS.get(tag, b"x")
    return der.tlv(tag, letter * (len(text) // len(letter)))


def verify_proof(request: CertificateRequest) -> None:
    """
    Verify that the requester holds the private key (RFC 2986, section 3).

    Costs what the key makes it cost: judge the key first.

    :raises UnsupportedAlgorithm: key or signature are of no supported kind;
        the detail names it.
    :raises ProofOfPossessionFailed: the signature does not verify; or there
        is none, and nobody has accepted that.
    """
    proof = request.proof
    if proof.kind != "signature":
        # What is no signature proves nothing by itself: a protocol must
        # have authorized the peer to do without one.
        if not proof.accepted:
            raise ProofOfPossessionFailed
        return
    algorithm = proof.algorithm
    # SHA-1 proves the key as well; whether it will do, the profile says.
    legacy = proof.digest == "sha1" and request.public_key.algorithm == "rsa"
    if legacy:
        algorithm = "sha1-with-rsa"
    elif algorithm not in algorithms.ALGORITHMS:
        raise UnsupportedAlgorithm(
            f"the request is signed with {proof.digest}"
        )
    key = request.public_key
    if key.algorithm.startswith("other:"):
        raise UnsupportedAlgorithm("the request's key is of no supported kind")
    if not algorithms.verify(
        key.spki, algorithm, proof.signature, proof.signed, legacy=legacy
    ):
        raise ProofOfPossessionFailed


# --- PEM --------------------------------------------------------------------

# RFC 7468, section 7, and what older software writes.
_LABELS = (b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST")


def pem_or_der(data: bytes) -> bytes:
    """
    Return the DER of a request that may be in PEM armour.

    Text around the armour is ignored (RFC 7468, section 2), and the lines
    may be of any length or run together into one.

    :raises Malformed: neither, or more than one request.
    """
    # The smallest request (Ed25519, nothing asked) has a length of 0x7F, so
    # that the second octet of a request is no character of a text.
    if data[:1] == b"\x30" and data[1:2] >= b"\x7f":
        return data
    for label in _LABELS:
        begin, end = b"-----BEGIN %s-----" % label, b"-----END %s-----" % label
        before, found, rest = data.partition(begin)
        if not found:
            continue
        body, closed, after = rest.partition(end)
        if not closed or b"-----BEGIN " in before or b"-----BEGIN " in after:
            break
        try:
            return binascii.a2b_base64(
                body.translate(None, b" \t\r\n"), strict_mode=True
            )
        except binascii.Error:
            break
    raise Malformed("not a certification request in PEM or DER")
