# SPDX-License-Identifier: MIT
"""
Frozen values that pass between layers.

Bytes become these values once, at the edge; inside, nothing else travels.
Certificates, keys and requests are DER; times are aware UTC datetimes;
durations are seconds unless a name says otherwise.  Fields that hold secrets
are left out of ``repr``.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import field, frozen

#: The tenant of the gateway's own acts: start, stop, its server certificate.
SYSTEM_TENANT = "00000000-0000-0000-0000-000000000000"

# --- names and requests -----------------------------------------------------


@frozen
class NameAttribute:
    """
    One attribute of a distinguished name (RFC 5280, section 4.1.2.4).

    :ivar oid: dotted attribute type.
    :ivar value: the decoded text.
    :ivar tag: universal tag number of the string type (12 UTF8String,
        19 PrintableString, 22 IA5String, 20 T61String, 30 BMPString, ...).
    """

    oid: str
    value: str
    tag: int = 12


#: A distinguished name: RDNs in order, each a tuple of attributes.
Name = tuple[tuple[NameAttribute, ...], ...]


@frozen(order=True)
class GeneralName:
    """
    One subject alternative name (RFC 5280, section 4.2.1.6).

    :ivar kind: ``dns``, ``ip``, ``email``, ``uri``, ``upn``, or, for what no
        profile can allow, ``other``, ``directory``, ``rid``, ``x400``,
        ``edi``.
    :ivar value: text form; an IP address in its canonical text form (or the
        hexadecimal octets if they are not an address); hexadecimal DER for
        the kinds that no profile can allow.
    """

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


@frozen
class Extension:
    """
    One X.509 extension, requested or to be issued.

    :ivar oid: dotted type.
    :ivar critical: the critical flag.
    :ivar value: DER of the extension's value (the octets in extnValue).
    """

    oid: str
    critical: bool
    value: bytes


@frozen
class PublicKey:
    """
    A subject public key, described without judging it.

    :ivar spki: DER SubjectPublicKeyInfo; empty: of a key that is yet to be
        made, of which there are algorithm and size only.
    :ivar algorithm: ``rsa``, ``p-256``, ``p-384``, ``p-521``, ``ed25519``,
        ``ed448``, ``ml-dsa-44``, ``ml-dsa-65``, ``ml-dsa-87``, or
        ``other:<oid or curve name>``.
    :ivar bits: size of an RSA modulus or of the curve's field; 0 otherwise.
    :ivar modulus: RSA modulus, else 0.
    :ivar exponent: RSA public exponent, else 0.
    :ivar fingerprint: hexadecimal SHA-256 of ``spki``.
    """

    spki: bytes = field(repr=False)
    algorithm: str
    bits: int
    fingerprint: str
    modulus: int = field(default=0, repr=False)
    exponent: int = 0


@frozen
class SignatureProof:
    """
    Proof of possession by a signature over ``signed`` with the request's key,
    or what CRMF puts in its place (RFC 4211, section 4).

    :ivar algorithm: a name of :mod:`trstctl.pkix.algorithms`, such as
        ``ecdsa-with-sha256``, or ``other:<oid>``.
    :ivar digest: ``sha256`` and so on; ``none`` for Ed25519, Ed448, ML-DSA;
        the name of what is unsupported otherwise (``sha1``, ``md5``).
    :ivar kind: ``signature``; or, without one: ``ra-verified`` (an RA has
        seen the proof), ``encryption`` (the certificate will be encrypted
        to the key), ``generated`` (the gateway makes the key), ``none``, or
        ``other``.  ``signed`` is what would have been signed.
    :ivar accepted: whether a protocol that has authorized the peer answers
        for a kind without a signature; nobody issues on it otherwise.
    """

    algorithm: str
    digest: str
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    parameters: bytes = field(default=b"", repr=False)
    kind: str = "signature"
    accepted: bool = False


@frozen
class NameChange:
    """
    What a renewal wants to be called from now on (RFC 6402, section 2.8).

    :ivar subject: the new subject; empty: none.
    :ivar names: the new alternative names; empty: none.
    """

    subject: Name = ()
    names: tuple[GeneralName, ...] = ()


@frozen
class CertificateRequest:
    """
    What a peer asks to have certified, in whatever format it asked.

    :ivar der: the whole request as it was received, in DER.
    :ivar extensions: the requested extensions, in order, without duplicates.
    :ivar names: the subject alternative names, in order.
    :ivar attributes: other attributes by OID: DER of each value.
    :ivar challenge_password: text of PKCS#9 challengePassword; secret.
    :ivar forgiven: the faults that a lenient reader overlooked.
    :ivar change: the attribute ChangeSubjectName, if there is one.
    :ivar kept: the request without the secrets that controls of CRMF have;
        ``None``: there are none.
    :ivar unproven: all that is asked for, if the proof is over less than
        that; empty: it is over all.
    """

    der: bytes = field(repr=False)
    subject: Name
    public_key: PublicKey
    names: tuple[GeneralName, ...]
    extensions: tuple[Extension, ...]
    proof: SignatureProof
    attributes: Mapping[str, tuple[bytes, ...]] = field(
        factory=dict, repr=False
    )
    challenge_password: str | None = field(default=None, repr=False)
    forgiven: tuple[str, ...] = ()
    change: NameChange | None = None
    kept: bytes | None = field(default=None, repr=False)
    unproven: bytes = field(default=b"", repr=False)

    @property
    def content(self) -> bytes:
        """All that is asked for, without the proof, which may be made anew."""
        return self.unproven or self.proof.signed


@frozen
class CertificateFacts:
    """
    What the gateway reads out of a certificate.

    :ivar serial: lower-case hexadecimal, without sign or prefix.
    :ivar extended_key_usage: dotted OIDs; empty if the extension is absent.
    :ivar extensions: all of them, in order; a part of ``der``.
    """

    der: bytes = field(repr=False)
    subject: Name
    issuer: Name
    serial: str
    names: tuple[GeneralName, ...]
    not_before: datetime
    not_after: datetime
    public_key: PublicKey
    is_ca: bool
    extended_key_usage: tuple[str, ...] = ()
    extensions: tuple[Extension, ...] = field(default=(), repr=False, eq=False)


# --- who asks ---------------------------------------------------------------


@frozen
class Password:
    """A name and password, as HTTP Basic carries them (RFC 7617)."""

    username: str
    password: str = field(repr=False)


@frozen
class BearerToken:
    """A bearer token (RFC 6750)."""

    token: str = field(repr=False)


@frozen
class OneTimeToken:
    """A secret that buys one certificate."""

    token: str = field(repr=False)


@frozen
class ClientCertificate:
    """
    A certificate whose private key is proven: by the TLS handshake, or by a
    signature over the request that the protocol has verified.

    :ivar chain: DER of the certificates that came with it, its issuer's
        first; nobody has judged them.
    """

    der: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False)


@frozen
class Challenge:
    """
    A challenge, with the gate that can judge it (RFC 8894, section 2.4).

    :ivar text: as it was sent; empty if none was.
    :ivar gate: an :class:`~trstctl.interfaces.IChallengeGate`.
    """

    text: str = field(repr=False)
    gate: Any = field(repr=False)


Credential = (
    Password | BearerToken | OneTimeToken | ClientCertificate | Challenge
)


@frozen
class Principal:
    """
    Who asks, once proven.

    :ivar kind: ``basic``, ``bearer``, ``token``, ``certificate``, ``mdm``,
        ``anonymous`` (who must be approved), ``ra`` (a registration
        authority, for somebody else), ``idevid`` (a factory certificate) or
        ``system``; or ``registrar``, who hands out secrets and never
        enrolls.
    :ivar name: unique within tenant and kind; canonical.
    :ivar names: patterns ``kind:pattern`` (``cn:``, ``dns:``, ``ip:``,
        ``email:``, ``uri:``, ``upn:``); if any are given, the common name
        and each subject alternative name must match one of them.
    :ivar profiles: the profiles that the principal may use; empty means
        any that the endpoint offers.
    :ivar certificate: for ``certificate`` and ``idevid``: the proven
        certificate; for a renewal by an ``ra``: the one to be renewed.
    :ivar record: that certificate's row of the inventory, but for
        ``idevid``.
    :ivar secret_id: the single-use secret to burn with the intent, if any.
    :ivar subject: if given, the text of the only subject that may be
        certified (RFC 4514).
    :ivar alternative_names: if given, the subject alternative names that may
        be certified: all of these and no others, each ``kind:value``.
    :ivar device: if given, what the common name or the serialNumber
        attribute must be.
    """

    kind: str
    name: str
    tenant_id: str
    names: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    certificate: CertificateFacts | None = field(default=None, repr=False)
    record: CertificateRecord | None = field(default=None, repr=False)
    secret_id: str | None = field(default=None, repr=False)
    subject: str | None = None
    alternative_names: tuple[str, ...] | None = None
    device: str | None = None

    @property
    def id(self) -> str:
        """The principal's part of an idempotency key and of an audit row."""
        return f"{self.kind}:{self.name}"


# --- what is asked ----------------------------------------------------------


class Operation(enum.Enum):
    """What an enrollment is for."""

    ENROLL = "enroll"
    RENEW = "renew"


class Linking(enum.Enum):
    """
    Whether a request is bound to the TLS session that brought it: the link
    of identity and proof of possession (RFC 7030, section 3.5).
    """

    UNASKED = "unasked"  # it is not, and need not be
    PROVEN = "proven"
    MISSING = "missing"  # it is not, and should be
    WRONG = "wrong"  # to some other session
    UNVERIFIABLE = "unverifiable"  # a proxy ends the session


@frozen
class RegistrationScope:
    """
    What a registration authority may do for others (RFC 7030, section 3.7).

    Whoever has a certificate with id-kp-cmcRA that meets each condition
    which is not empty.

    :ivar name: what the operator calls it.
    :ivar subject: condition: the certificate's subject, as the inventory
        has it.
    :ivar serial: condition: its serial, lower-case hexadecimal.
    :ivar certificate_profile: condition: the profile that it is of.
    :ivar names: patterns, as in :class:`Principal`; whom it may enroll.
    :ivar profiles: the profiles that it may enroll with; empty: any that
        the endpoint offers.
    :ivar operations: what it may do.
    """

    name: str
    subject: str
    serial: str
    certificate_profile: str
    names: tuple[str, ...]
    profiles: tuple[str, ...] = ()
    operations: tuple[Operation, ...] = (Operation.ENROLL, Operation.RENEW)


@frozen
class FactoryTrust:
    """
    Whose factory certificates (IDevIDs of IEEE 802.1AR) may enroll.

    :ivar anchors: DER of the manufacturers' CA certificates.
    :ivar subject: attributes that the certificate's subject must have: OID,
        and pattern of kind ``cn`` that a value must match.
    :ivar names: patterns, as in :class:`Principal`: names that may be
        requested beside the certificate's own.
    :ivar refused: SHA-256 of certificates, in hexadecimal, that do not count
        although an anchor vouches for them.
    """

    anchors: tuple[bytes, ...] = field(repr=False)
    subject: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()
    refused: frozenset[str] = frozenset()


@frozen
class Endpoint:
    """
    Where a request came in: the one source of tenant, profile and authority.

    Made from the configuration at start, never from a request.

    :ivar protocol: the plugin's name.
    :ivar name: label or alias; empty for the default one.
    :ivar gated: whether who enrolls here must show something; else its
        profile must demand a person's approval.
    :ivar may_wait: whether a client can be told to come back; if not, its
        profile must not demand an approval.
    :ivar makes_keys: whether keys are made for whoever asks for one here; if
        so, its profile must allow that.
    :ivar issuers: further authorities whose certificates count here: the
        one before, while another takes over.
    :ivar scopes: what registration authorities may do here.
    :ivar factory: whose factory certificates count here, if any do.
    """

    protocol: str
    name: str
    tenant_id: str
    profile: str
    authority: str
    gated: bool = True
    may_wait: bool = True
    makes_keys: bool = False
    issuers: tuple[str, ...] = ()
    scopes: tuple[RegistrationScope, ...] = field(default=(), repr=False)
    factory: FactoryTrust | None = field(default=None, repr=False)


@frozen
class EnrollmentRequest:
    """
    One call on the registration authority.

    :ivar credentials: everything that the peer presented; each one present
        must be right.
    :ivar idempotency_key: the client's own key, or ``None`` to derive one.
    :ivar request_id: identifies the exchange in answers, log and audit.
    :ivar peer: text of the network address.
    :ivar transaction: the protocol's transactionID, or empty.  The same
        request under it is the same request; another one of the same
        principal is refused until the first is finished.
    :ivar linking: whether it is bound to its TLS session.
    :ivar content: what of the request counts, if it has to be built anew for
        each session; else ``None``, and all of it counts.
    :ivar confirm_within: for how long the client may take to confirm the
        certificate, which is revoked otherwise and replaces no other before;
        ``None``: nobody waits for that.
    :ivar anew: for a key that the gateway made and does not keep: whoever
        repeats the request under its transaction, which it must have, gets
        another certificate, and those before it, whose keys nobody may have,
        are revoked.  It has no idempotency key, and cannot be held.
    :ivar generate: makes that key, unless it is made already; called once
        it is proven who asks, and only for what the profile allows.  Then
        ``wanted`` has the key that is wished for, and this returns the same
        with the key that was made.
    :ivar current_only: whether a certificate that has been replaced renews
        nothing; whoever repeats the renewal that has replaced it still gets
        its answer.
    :ivar once: whether the same request under the same transaction is
        refused for good once its answer is not repeated any more, at every
        endpoint of the protocol and tenant.  For a protocol whose messages
        name their transactions, so that who begins anew is known from who
        sends again what somebody has recorded.
    :ivar revocation_challenge: what its sender wants to be able to revoke the
        certificate by; secret.  Then ``content`` is there, without it.
    :ivar revocation_verifier: what is kept of that; once there is one, it is
        part of ``content``.
    """

    endpoint: Endpoint
    operation: Operation
    wanted: CertificateRequest
    credentials: tuple[Credential, ...]
    request_id: str
    peer: str
    idempotency_key: str | None = None
    transaction: str = ""
    linking: Linking = Linking.UNASKED
    content: bytes | None = field(default=None, repr=False)
    confirm_within: timedelta | None = None
    anew: bool = False
    generate: Callable[[], Awaitable[CertificateRequest]] | None = field(
        default=None, repr=False
    )
    current_only: bool = False
    once: bool = False
    revocation_challenge: str = field(default="", repr=False)
    revocation_verifier: str = field(default="", repr=False)


@frozen
class PollRequest:
    """
    A client's question for what became of its request.

    :ivar transaction: the transactionID of the request.
    :ivar public_key_fingerprint: of the key that the question is signed
        with: the one to be certified, or, for a renewal, the old one.
    :ivar credentials: the certificate that signed it, for a renewal; the
        password or bearer token with which the request came.
    :ivar confirm_within: as in :class:`EnrollmentRequest`.
    :ivar generate: likewise; it is given the request that is answered.
    :ivar principal: whose request it is; empty: the key says it.
    """

    endpoint: Endpoint
    transaction: str
    public_key_fingerprint: str
    credentials: tuple[Credential, ...]
    request_id: str
    peer: str
    confirm_within: timedelta | None = None
    generate: (
        Callable[[CertificateRequest], Awaitable[CertificateRequest]] | None
    ) = field(default=None, repr=False)
    principal: str = ""


@frozen
class Issued:
    """
    The certificate.

    :ivar certificate: DER.
    :ivar chain: DER of the issuing certificates, issuer first, root last.
    :ivar replayed: whether an earlier request had brought it about.
    :ivar former: serial of the certificate that it renews, or empty.
    """

    certificate: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    serial: str
    profile: str
    principal: str
    replayed: bool = False
    former: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """What the log line of the exchange says of it."""
        return {
            "decision": "replayed" if self.replayed else "issued",
            "principal": self.principal,
            "profile": self.profile,
            "serial": self.serial,
        }


@frozen
class Pending:
    """
    No certificate yet; the same request, repeated, will get it.

    :ivar retry_after: seconds.
    :ivar reference: the held request, as ``trstctl request list`` shows it.
    :ivar in_flight: the same request is being answered elsewhere right now.
    """

    retry_after: int
    reference: str
    principal: str
    profile: str
    in_flight: bool = False

    @property
    def facts(self) -> dict[str, str]:
        """What the log line of the exchange says of it."""
        return {
            "decision": "in-flight" if self.in_flight else "pending",
            "principal": self.principal,
            "profile": self.profile,
            "reference": self.reference,
        }


# --- what the profile says --------------------------------------------------

#: What can point from a certificate to its issuer: the CRL distribution
#: point (RFC 5280, section 4.2.1.13), the OCSP responder and the issuer's
#: certificate (section 4.2.2.1).
POINTERS = ("crl", "ocsp", "issuer")


@frozen
class Verdict:
    """
    One rule's judgement.

    :ivar rule: the rule's name, as a refusal cites it.
    :ivar allowed: whether the rule is satisfied.
    :ivar detail: plain text, fit for the peer.
    """

    rule: str
    allowed: bool
    detail: str


@frozen
class CSRWishes:
    """
    What a profile wishes to see in a request.

    :ivar algorithms: accepted key algorithms, as in :class:`PublicKey`.
    :ivar rsa_bits: the least and the greatest size of an RSA modulus.
    :ivar digests: accepted signature digests, strongest wish first.
    :ivar subject_attributes: dotted OIDs of required subject attributes.
    :ivar extensions: dotted OIDs of required extensions.
    :ivar fixed: subject attributes that are issued with one value, whatever
        is requested: dotted OID and value.
    :ivar issued: extensions that are issued with these values to every key
        that is accepted.
    """

    algorithms: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    subject_attributes: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()
    issued: tuple[Extension, ...] = ()
    rsa_bits: tuple[int, int] = (2048, 8192)


@frozen
class Approved:
    """
    What will be certified: the profile's decision, complete but for serial
    and issuer.

    :ivar profile_version: hexadecimal digest of the profile's settings.
    :ivar extensions: all but the two key identifiers and the pointers to
        the issuer, which the authority adds.
    :ivar pointers: which pointers to the issuer: some of :data:`POINTERS`.
    """

    profile: str
    profile_version: str
    subject: Name
    names: tuple[GeneralName, ...]
    public_key: PublicKey
    not_before: datetime
    not_after: datetime
    extensions: tuple[Extension, ...]
    pointers: tuple[str, ...] = POINTERS


@frozen
class Held:
    """
    Allowed, once a person approves.

    :ivar retry_after: seconds that the client is asked to wait.
    """

    approved: Approved
    retry_after: int


# --- what the store keeps ---------------------------------------------------


class RequestState(enum.Enum):
    """The life of a request row."""

    HELD = "held"
    APPROVED = "approved"
    DENIED = "denied"
    OPEN = "open"  # an intent is committed, its certificate is not
    ISSUED = "issued"
    ABANDONED = "abandoned"  # its last intent was retired; may be tried again


class CertificateStatus(enum.Enum):
    """The status of a certificate in the inventory."""

    VALID = "valid"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"  # replaced by a renewal, not revoked


@frozen
class RequestKey:
    """What two requests must share to be the same request."""

    tenant_id: str
    protocol: str
    principal: str
    key: str


@frozen
class StoredRequest:
    """
    A request as the store knows it.

    :ivar id: opaque, unique; shown to operators.
    :ivar fingerprint: hexadecimal SHA-256 over the DER request (if a
        single-use secret pays for it: its signed part), its operation and
        its endpoint.
    :ivar key_expires: after this the key is free again.
    :ivar certificate: DER, once issued.
    :ivar revoked: whether that certificate has been revoked.
    :ivar reason: why it was denied, or empty.
    :ivar transaction: the protocol's transactionID, or empty.
    :ivar secret_id: the single-use secret that is reserved for it or burnt.
    :ivar authority: which authority issued the certificate, or empty.
    :ivar revocation_verifier: as in :class:`CertificateRecord`.
    """

    id: str
    key: RequestKey
    fingerprint: str
    state: RequestState
    endpoint: str
    operation: str
    profile: str
    subject: str
    names: tuple[GeneralName, ...]
    public_key_fingerprint: str
    created_at: datetime
    key_expires: datetime
    csr: bytes = field(repr=False, default=b"")
    certificate: bytes | None = field(repr=False, default=None)
    serial: str | None = None
    not_after: datetime | None = None
    revoked: bool = False
    decided_by: str = ""
    decided_at: datetime | None = None
    reason: str = ""
    transaction: str = ""
    secret_id: str | None = None
    authority: str = ""
    revocation_verifier: str = field(default="", repr=False)


@frozen
class NewRequest:
    """
    The facts of a request that is about to be held or signed.

    :ivar key_expires: when the idempotency key becomes free again.
    :ivar names: the names that the certificate will carry (for a held
        request: would carry).
    :ivar secret_id: the single-use secret that pays for it; a request that
        is held reserves it.
    :ivar wish: if the key was made for the request: what the secret is burnt
        for instead, as the key is another each time.
    :ivar revocation_verifier: as in :class:`CertificateRecord`.
    """

    id: str
    key: RequestKey
    fingerprint: str
    key_expires: datetime
    endpoint: str
    operation: str
    profile: str
    profile_version: str
    subject: str
    names: tuple[GeneralName, ...]
    public_key_fingerprint: str
    csr: bytes = field(repr=False)
    request_id: str
    peer: str
    transaction: str = ""
    secret_id: str | None = None
    wish: str = ""
    revocation_verifier: str = field(default="", repr=False)

    @property
    def burnt_for(self) -> str:
        """What a secret that pays is burnt for."""
        return self.wish or self.public_key_fingerprint


@frozen
class Intent:
    """
    The promise to sign exactly these bytes under exactly this serial.

    :ivar owner: the process that will sign.
    :ivar serial: lower-case hexadecimal.
    :ivar tbs: the DER TBSCertificate.
    :ivar secret_id: a single-use secret to burn, or ``None``.
    :ivar confirm_by: until when the client has to confirm the certificate;
        ``None``: it need not.
    """

    id: str
    request: NewRequest
    owner: str
    authority: str
    serial: str
    tbs: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime
    secret_id: str | None = field(default=None, repr=False)
    confirm_by: datetime | None = None


@frozen
class Opened:
    """
    The intent is committed: sign it.

    :ivar request_id: the id of the request row that the intent belongs to
        (an earlier one's, if this is a retry of an abandoned request).
    """

    request_id: str


@frozen
class CertificateRecord:
    """
    One certificate of the inventory.

    :ivar superseded_by: the serial of the certificate that a renewal has put
        in its place, or empty; also of one that has been revoked since.
    :ivar confirm_by: until when the client has to confirm it; ``None`` if it
        has done so, or need not, or it has been revoked.
    :ivar revocation_verifier: what a revocationChallenge (RFC 7894, section
        3.2) is checked against: ``scrypt$…``; empty: there was none.  Only
        where ``der`` is.
    """

    tenant_id: str
    authority: str
    serial: str
    subject: str
    names: tuple[GeneralName, ...]
    profile: str
    protocol: str
    principal: str
    public_key_fingerprint: str
    not_before: datetime
    not_after: datetime
    status: CertificateStatus
    issued_at: datetime
    der: bytes = field(repr=False, default=b"")
    revoked_at: datetime | None = None
    revocation_reason: str = ""
    superseded_by: str = ""
    confirm_by: datetime | None = None
    revocation_verifier: str = field(default="", repr=False)


@frozen
class CertificateQuery:
    """
    Which certificates to list; ``None`` means any.

    :ivar name: exact text of a common name or subject alternative name.
    :ivar expiring_before: list by expiry, valid ones only.
    :ivar expiring_after: with ``expiring_before``: only those that end then
        or later.
    :ivar after: the serial that the last page ended with, or ``None``.
    :ivar limit: at most this many rows.
    """

    tenant_id: str
    status: CertificateStatus | None = None
    profile: str | None = None
    protocol: str | None = None
    principal: str | None = None
    public_key_fingerprint: str | None = None
    name: str | None = None
    expiring_before: datetime | None = None
    expiring_after: datetime | None = None
    after: str | None = None
    limit: int = 1000


#: The reason of a certificate that may become valid again.
CERTIFICATE_HOLD = "certificateHold"

#: The reason of one whose key is in wrong hands: there is no worse.
KEY_COMPROMISE = "keyCompromise"

#: The reason of one that another has replaced.
SUPERSEDED = "superseded"

#: What a certificate can be revoked for: the CRLReason names of RFC 5280,
#: section 5.3.1, but removeFromCRL, which only a delta CRL can say.
REVOCATION_REASONS = (
    "unspecified",
    KEY_COMPROMISE,
    "cACompromise",
    "affiliationChanged",
    SUPERSEDED,
    "cessationOfOperation",
    CERTIFICATE_HOLD,
    "privilegeWithdrawn",
    "aACompromise",
)


@frozen
class SerialStatus:
    """
    What an authority says of one of its serial numbers.

    A serial that was promised and never issued counts as revoked, from the
    moment of the promise.

    :ivar revoked_at: ``None``: it is good, or good again.
    :ivar reason: a CRLReason name of RFC 5280, section 5.3.1, or empty.
    :ivar released_at: when it was last taken off hold.
    """

    serial: str
    not_after: datetime
    revoked_at: datetime | None = None
    reason: str = ""
    released_at: datetime | None = None


@frozen
class RenewalWindow:
    """
    When a certificate should be renewed: at some moment between these.

    Both are whole seconds; in the past: now.
    """

    start: datetime
    end: datetime


@frozen
class RevocationQuery:
    """
    Which revoked serials of an authority to list.

    :ivar first: the least serial; fixed-width hexadecimal sorts as its
        number does.
    :ivar end: beyond the greatest serial.
    :ivar not_after: only those whose certificates end later.
    :ivar changed_since: only those revoked or released at or after this
        time; the released are not listed without it.
    :ivar limit: at most this many rows.
    """

    authority: str
    first: str
    end: str
    not_after: datetime
    changed_since: datetime | None = None
    limit: int = 1000


@frozen
class StoredCRL:
    """
    The newest CRL of one scope of an authority.

    :ivar scope: empty for the full CRL; else as the publisher names it.
    :ivar number: CRLNumber; one sequence for all scopes of an authority.
    :ivar base: BaseCRLNumber of a delta CRL, else 0.
    :ivar entries: how many serials it lists.
    """

    authority: str
    scope: str
    number: int
    base: int
    this_update: datetime
    next_update: datetime
    entries: int
    der: bytes = field(repr=False)


class Phase(enum.Enum):
    """How far the change to another generation of an authority has come."""

    PREPARED = "prepared"  # it is told of; the one before still signs
    ACTIVE = "active"  # it signs; certificates of both count
    FINISHED = "finished"  # the one before counts no more
    DROPPED = "dropped"  # it was taken back; the one before goes on


@frozen
class Generation:
    """
    A key of an authority that takes the place of another (RFC 9810, section
    4.4): an authority of its own, under the name that endpoints know.

    The first generation is what the configuration has, and has no row.

    :ivar authority: the authority's name in the configuration.
    :ivar number: 2, 3, ...
    :ivar name: what inventory, CRLs and URLs call it.
    :ivar chain: DER; its CA certificate first, the root last.
    :ivar old_with_new: the root before, signed by the new one; empty if the
        root stays.  Likewise ``new_with_old``.
    :ivar key: reference to its private key, as in the configuration; a
        relative path is below the state directory of each host.
    :ivar activated_at: since when it signs; ``None``: it does not yet, or no
        longer.
    :ivar stepped_at: when it came to its phase; ``None``: when it was
        prepared.
    """

    authority: str
    number: int
    name: str
    phase: Phase
    chain: tuple[bytes, ...] = field(repr=False)
    old_with_new: bytes = field(repr=False)
    new_with_old: bytes = field(repr=False)
    key: str
    prepared_at: datetime
    activated_at: datetime | None = None
    stepped_at: datetime | None = None


@frozen
class Outstanding:
    """
    What an authority has issued that has not expired, in all tenants but
    the gateway's own.

    :ivar valid: how many certificates are neither revoked nor replaced, those
        that are being signed included.
    :ivar last: when the last certificate ends, revoked ones included.
    """

    valid: int
    last: datetime | None


@frozen
class RootUpdate:
    """
    A root that takes the place of another (RFC 9810, section 4.4): DER of
    both, and of what links them.
    """

    old: bytes = field(repr=False)
    new: bytes = field(repr=False)
    old_with_new: bytes = field(repr=False)
    new_with_old: bytes = field(repr=False)


@frozen
class Succession:
    """
    What an authority is at this moment, with the generations beside it.

    :ivar authority: the generation that issues.
    :ivar certificates: DER of all that clients are told: its chain, the
        root last; then what is of other generations, each once.
    :ivar accepted: other generations whose certificates count.
    :ivar keyed: those of them whose keys are at hand.
    :ivar following: the one that will take over, if its key is at hand.
    :ivar bridge: NewWithOld, which leads from its root to the one before, for
        who knows that one only.
    :ivar ahead: OldWithNew, which leads to the one that follows.
    :ivar update: the root that takes over, or has just done so.
    :ivar renewals: when devices of the other generations are to renew, once
        it has taken over from them.
    """

    authority: str
    certificates: tuple[bytes, ...] = field(repr=False)
    accepted: tuple[str, ...] = ()
    keyed: tuple[str, ...] = ()
    following: str = ""
    bridge: tuple[bytes, ...] = field(default=(), repr=False)
    ahead: tuple[bytes, ...] = field(default=(), repr=False)
    update: RootUpdate | None = None
    renewals: RenewalWindow | None = None

    @property
    def links(self) -> tuple[bytes, ...]:
        """
        What is sent to those who know one root or the other.

        They know the key of our root by it, certified by the other root.
        """
        return self.bridge or self.ahead


@frozen
class Dialogue:
    """
    A transaction of several messages, as every process must know it.

    :ivar endpoint: the endpoint's name.
    :ivar transaction: the protocol's transactionID.
    :ivar party: who began it and by what technique; nobody else goes on.
    :ivar state: a word of the protocol's own.
    :ivar request: hexadecimal SHA-256 of the last message that was answered.
    :ivar answer: what it was answered with, in octets.
    :ivar notes: what else the protocol has to remember, flat.
    :ivar expires_at: when all of it may be forgotten.
    :ivar version: grows with each change; the store's.
    :ivar charged_to: whose quota it counts towards until it is forgotten;
        empty: nobody's.  It stays what it was at the beginning.
    """

    tenant_id: str
    protocol: str
    endpoint: str
    transaction: str
    party: str
    state: str
    request: str
    answer: bytes = field(repr=False)
    notes: Mapping[str, str]
    expires_at: datetime
    version: int = 1
    charged_to: str = ""


@frozen
class MadeKey:
    """
    A key pair that the gateway has made for somebody else.

    :ivar private_key: DER PrivateKeyInfo (PKCS #8, RFC 5208); secret.  It is
        never kept and never logged.
    """

    private_key: bytes = field(repr=False)
    public_key: PublicKey


class Purpose(enum.Enum):
    """What the gateway certifies a key of its own for."""

    OCSP = "ocsp"  # signs OCSP responses (RFC 6960, section 4.2.2.2)
    SCEP = "scep"  # decrypts and signs SCEP messages (RFC 8894)
    CMP = "cmp"  # signs CMP messages (RFC 9483, section 1.5)
    KGA = "kga"  # signs keys that the gateway has made (RFC 9483, 4.1.6)


@frozen
class CredentialRecord:
    """
    A standing credential.

    :ivar kind: ``basic``, ``bearer`` or ``registrar``.
    :ivar name: the user name, or the token's public id.
    :ivar verifier: what the secret is checked against: ``scrypt$…`` or
        ``sha256$…``; never the secret itself.
    """

    tenant_id: str
    kind: str
    name: str
    verifier: str = field(repr=False)
    names: tuple[str, ...]
    profiles: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class SecretState(enum.Enum):
    """What a single-use secret is good for."""

    UNUSED = "unused"
    BURNT = "burnt"
    EXPIRED = "expired"  # without having been used
    REVOKED = "revoked"


@frozen
class OneTimeSecret:
    """
    A secret that buys one certificate.

    :ivar id: public id; the audit log names it.
    :ivar digest: hexadecimal SHA-256 of the secret.
    :ivar profile: the only profile that it may use.
    :ivar names: patterns, as in :class:`Principal`.
    :ivar burnt_at: when it was used up: burnt or reserved as often as it
        may be used.
    :ivar burnt_for: public key fingerprint that it was last burnt or
        reserved for, or empty.
    :ivar burnt_request: fingerprint of that request.
    :ivar burnt_keys: every public key fingerprint that it was burnt or is
        reserved for.
    :ivar reserved_until: when it is free again, if what used it up is a
        request that nobody decides.
    :ivar key_fingerprint: hexadecimal SHA-256 of the SubjectPublicKeyInfo
        of the only key that it is for; empty: whichever comes first.
    :ivar protocol: the only protocol that takes it.
    :ivar uses: how many certificates it buys, each for a key of its own.
    :ivar device: as in :class:`Principal`, but empty for none; likewise
        ``subject``.
    :ivar alternative_names: as in :class:`Principal`.
    """

    tenant_id: str
    id: str
    digest: str = field(repr=False)
    profile: str
    names: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    burnt_at: datetime | None = None
    burnt_for: str = ""
    burnt_request: str = ""
    revoked_at: datetime | None = None
    key_fingerprint: str = ""
    protocol: str = "bootstrap"
    uses: int = 1
    device: str = ""
    subject: str = ""
    alternative_names: tuple[str, ...] | None = None
    burnt_keys: tuple[str, ...] = ()
    reserved_until: datetime | None = None

    def state(self, now: datetime) -> SecretState:
        """Return what it is good for; what comes first here counts."""
        if self.revoked_at is not None:
            return SecretState.REVOKED
        if self.burnt_at is not None and (
            self.reserved_until is None or now < self.reserved_until
        ):
            return SecretState.BURNT
        if self.expires_at <= now:
            return SecretState.EXPIRED
        return SecretState.UNUSED


@frozen
class SecretOrder:
    """
    Which single-use secrets somebody wants.

    :ivar names: patterns, as in :class:`Principal`.
    :ivar key_fingerprint: as in :class:`OneTimeSecret`; likewise
        ``protocol``, ``uses``, ``device``, ``subject`` and
        ``alternative_names``.
    :ivar life: from now to their end.
    :ivar count: how many, all alike.
    """

    profile: str
    names: tuple[str, ...] = ()
    key_fingerprint: str = ""
    life: timedelta = timedelta(days=1)
    count: int = 1
    protocol: str = "bootstrap"
    uses: int = 1
    device: str = ""
    subject: str = ""
    alternative_names: tuple[str, ...] | None = None


@frozen
class MintedSecret:
    """A single-use secret, at the one moment at which it is known."""

    record: OneTimeSecret
    secret: str = field(repr=False)


@frozen
class RegistrarCall:
    """
    What somebody shows who wants to hand out secrets.

    :ivar endpoint: where; its tenant is the secrets' tenant.
    :ivar peer: text of the network address.
    """

    endpoint: Endpoint
    credentials: tuple[Credential, ...]
    peer: str


@frozen
class AuditEvent:
    """
    Something worth remembering, before it has a place in the chain.

    :ivar event: a dotted literal, such as ``certificate.issued``.
    :ivar actor: principal or operator.
    :ivar fields: flat facts; keys and values are text.
    """

    tenant_id: str
    at: datetime
    event: str
    actor: str
    fields: Mapping[str, str] = field(factory=dict)


@frozen
class AuditRecord:
    """
    An event with its place in its tenant's chain.

    :ivar sequence: 1, 2, 3, ... without gaps in each tenant.
    :ivar previous: hash of the record before, or 64 zeros.
    :ivar hash: hexadecimal SHA-256, see :mod:`trstctl.audit`.
    """

    tenant_id: str
    sequence: int
    body: str
    previous: str
    hash: str


# --- what we ask of others --------------------------------------------------


@frozen
class OutboundCall:
    """
    A request that the gateway makes of somebody else, over HTTPS.

    :ivar service: what it is for, a word of this program's own; log and
        metrics name it, and nothing else of the call but the host.
    :ivar body: of a POST; ``None`` for a GET.
    :ivar headers: may be secret.
    :ivar timeout: seconds for the whole of it, tries included.
    :ivar tries: how often it may be sent, where the first ones fail; more
        than once only for what does no harm twice.
    :ivar trust: PEM file of the CAs to trust; ``None``: the system's.
    """

    service: str
    url: str = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    timeout: float = 10.0
    tries: int = 1
    trust: str | None = None


@frozen
class OutboundReply:
    """
    What came back.

    :ivar status: the HTTP status, whatever it is.
    :ivar body: whole, and bounded.
    """

    status: int
    body: bytes = field(repr=False)
