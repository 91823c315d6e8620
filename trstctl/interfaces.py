# SPDX-License-Identifier: MIT
"""
The seams: every zope interface, with its contract in the docstring.

Methods that return a Deferred fail it with errors of :mod:`trstctl.errors`
only; anything else is a fault of this program and becomes ``Internal`` at
the edge.
"""

from __future__ import annotations

from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource
from zope.interface import Attribute, Interface

from trstctl.errors import RequestError
from trstctl.model import (
    Approved,
    AuditEvent,
    AuditRecord,
    CertificateFacts,
    CertificateQuery,
    CertificateRecord,
    CredentialRecord,
    CSRWishes,
    Dialogue,
    Endpoint,
    EnrollmentRequest,
    Generation,
    Held,
    Intent,
    Issued,
    MadeKey,
    MintedSecret,
    NewRequest,
    OneTimeSecret,
    Opened,
    OutboundCall,
    OutboundReply,
    Outstanding,
    Pending,
    Phase,
    PollRequest,
    Principal,
    Purpose,
    RegistrarCall,
    RenewalWindow,
    RequestKey,
    RequestState,
    RevocationQuery,
    SecretOrder,
    SecretState,
    SerialStatus,
    StoredCRL,
    StoredRequest,
    Succession,
    Verdict,
)


class IEnrollmentProtocol(Interface):
    """
    A plugin: one enrollment protocol.

    Found by ``twisted.plugin`` in ``twisted/plugins/``; see
    :class:`trstctl.plugin.ProtocolPlugin`, which provides it lazily.
    """

    name = Attribute("Unique; the key under ``protocols:``.")
    version = Attribute("Text for ``trstctl plugin list``.")

    def settings_schema() -> type:
        """
        Return the pydantic model of the protocol's settings.

        :returns: a subclass of :class:`trstctl.plugin.ProtocolSettings`.
        """

    def paths(settings: object) -> Sequence[str]:
        """
        Return the URL path prefixes that the protocol answers at.

        Two protocols with one path stop the start.
        """

    def endpoints(settings: object) -> Sequence[Endpoint]:
        """
        Return every endpoint that the settings define, the default first;
        none if nobody enrolls by the protocol.

        The composition root checks that their profiles and authorities
        exist before anything listens.
        """

    def plain_http() -> bool:
        """Tell whether the protocol is also served without TLS."""

    def make_resource(
        ra: IRegistrationAuthority, settings: object
    ) -> IResource:
        """
        Return the resource that answers below each of :meth:`paths`.

        :param ra: all that a protocol can reach.
        :param settings: a validated instance of :meth:`settings_schema`.
        """


class IBackendFactory(Interface):
    """A plugin: makes a store, a signer or an authenticator from a URL."""

    prefix = Attribute("What its URLs begin with, such as ``sqlite``.")
    version = Attribute("Text for ``trstctl plugin list``.")

    def make(url: str, **context: object) -> object:
        """
        Return the backend, open, which provides the interface of its kind.

        :raises Unavailable: it cannot be opened; the text says why.
        """


class IMessageCredential(Interface):
    """
    A key of the gateway's own with its certificate, for messages.

    Never the key of a CA.
    """

    certificate = Attribute("DER of its certificate.")
    chain = Attribute("DER tuple: its certificate first, the root last.")
    algorithm = Attribute("The signature algorithm that suits its key.")
    not_after = Attribute("Aware datetime: the certificate's end.")

    def sign(content: bytes, algorithm: str) -> Deferred[bytes]:
        """
        Sign.

        :param algorithm: a name of :mod:`trstctl.pkix.algorithms` that fits
            the key.
        :raises Unavailable: the key cannot be used now.
        """

    def decrypt(ciphertext: bytes, scheme: str) -> Deferred[bytes | None]:
        """
        Decrypt with an RSA key.

        :param scheme: ``rsaes-pkcs1-v1.5``, or ``rsaes-oaep-<digest>``.
        :returns: ``None`` if the padding is wrong.  Whoever asked must go on
            with a random key then (RFC 3218, section 2.3.2).
        :raises Unavailable: the key cannot be used now.
        """


class ICredentials(Interface):
    """The gateway's own keys, by what they are for."""

    def get(authority: str, purpose: Purpose) -> Deferred[IMessageCredential]:
        """
        Return the credential that the authority certified for a purpose.

        Made when it is first asked for, kept in the state directory, renewed
        in time.

        :raises UnknownCertificate: no such authority.
        :raises Unavailable: it cannot be made now.
        """

    def known(
        authority: str, purpose: Purpose
    ) -> Deferred[Sequence[IMessageCredential]]:
        """
        Return every such credential that is good, the newest first.

        A device may still encrypt to the one before.
        """


class IKeyMaker(Interface):
    """
    Makes keys for devices that cannot make their own (RFC 7030, section
    4.4; RFC 9483, section 4.1.6).
    """

    def make(
        algorithm: str, bits: int = 0, tenant_id: str = ""
    ) -> Deferred[MadeKey]:
        """
        Make a key pair, outside of the reactor's thread.

        :param algorithm: as in :class:`~trstctl.model.PublicKey`.
        :param bits: of an RSA modulus.
        :param tenant_id: whose device it is for.
        :raises UnsupportedAlgorithm: no such key can be made.
        :raises Unavailable: too many are being made, or too many for the
            tenant.
        """


class IRevocation(Interface):
    """What the authorities say of the certificates that they signed."""

    def chains() -> Mapping[str, tuple[bytes, ...]]:
        """Return the DER chain of each authority, issuer first, by name."""

    def status(authority: str, serial: str) -> Deferred[SerialStatus | None]:
        """
        Return what is true of a serial right now; ``None`` if the authority
        never promised it.
        """

    def crl(authority: str, scope: str) -> Deferred[StoredCRL]:
        """
        Return the CRL of a scope that is in force.

        :param scope: empty for the full CRL; ``delta``; ``<n>/<i>`` for the
            partition ``i`` of ``n``.
        :raises UnknownCertificate: no such authority or scope.
        :raises Unavailable: it has run out and no other can be signed.
        """


class IChallengeGate(Interface):
    """
    Judges challenges: the gate before an enrollment (RFC 8894, section 2.4).

    Fails closed: whatever goes wrong, nobody passes.
    """

    renewals = Attribute(
        "Whether it judges renewals, too, which a certificate signs."
    )

    def admit(
        request: EnrollmentRequest, challenge: str, now: datetime
    ) -> Deferred[Principal]:
        """
        Judge a challenge, and say for whom it speaks.

        :param challenge: secret; empty if the request had none.
        :raises ChallengeRejected: whatever is wrong with it; ``reused`` if
            it was used for another key.
        :raises Throttled: too many wrong ones.
        :raises Unavailable: it cannot be judged now.
        """

    def issued(
        request: EnrollmentRequest, principal: Principal, outcome: Issued
    ) -> Deferred[None]:
        """
        Hear that the certificate is committed, before it is handed out.

        Also when it is handed out again.  If this fails, the certificate is
        revoked and not handed out.
        """

    def refused(
        request: EnrollmentRequest, error: RequestError
    ) -> Deferred[None]:
        """Hear that the request was refused after all; never fails."""


class IChallengeTokens(IChallengeGate):
    """The gate of our own tokens, which also makes them."""

    def prove(
        endpoint: Endpoint,
        reference: str,
        peer: str,
        knows: Callable[[str], Awaitable[bool]],
        *,
        costly: bool,
    ) -> Deferred[tuple[OneTimeSecret, str]]:
        """
        Return the secret that a message refers to and was made with.

        :param reference: the public id of the secret, as the peer gave it.
        :param knows: tells whether the message was made with a text; asked
            of a decoy, too, so that unknown and wrong take the same.
        :param costly: whether ``knows`` takes so long that nobody is to have
            it done for him who has failed too often from his address, with
            whatever reference.
        :returns: the record, also of one that is burnt or expired, and the
            text that the message was made with; secret.
        :raises ChallengeRejected: unknown, revoked, for another endpoint,
            or not the one that the message was made with.
        :raises Throttled: too many wrong ones, with this reference from this
            address, or with many: nothing was tried, and nobody has looked
            whether there is such a secret.
        """

    def texts(record: OneTimeSecret) -> Iterator[str]:
        """
        Yield the challenge of a record under each key, the newest first.

        All but the digest of the record counts.

        :raises Unavailable: the keys cannot be read or made.
        """

    def check_renewal(
        request: EnrollmentRequest, challenge: str
    ) -> Deferred[None]:
        """
        Look at what a renewal has in it, which is no credential there.

        :raises ChallengeRejected: ``misused``: it is a challenge of another
            device, subject, set of names or profile, whether or not it is
            still good for anything.
        """


class IRevocationChallenges(Interface):
    """
    The passwords that revoke certificates (RFC 7894, section 3.2).

    Somebody may have thought them up, so that each hash is slow, and none is
    made in the reactor's thread.
    """

    def verifier(
        challenge: str, tenant_id: str, request: bytes
    ) -> Deferred[str]:
        """
        Return what is kept of a challenge.

        The same for the same challenge and request.

        :param challenge: secret.
        :param request: what the request is beside it, which is unique to it.
        """

    def prove(
        tenant_id: str, serial: str, verifier: str, secret: bytes, peer: str
    ) -> Deferred[None]:
        """
        Prove that a secret is the one that a certificate came with.

        :param serial: as the peer gave it, for the throttle.
        :param verifier: what was kept; empty: nothing, or there is no such
            certificate, which takes as long and fails alike.
        :param secret: octets of the text in UTF-8.
        :raises ChallengeRejected: it is not.
        :raises Throttled: too many wrong ones, from this peer or for this
            certificate.
        """


class IDeviceSecrets(Interface):
    """
    Single-use secrets for devices that somebody else vouches for.

    Who vouches (*the voucher*) has been proven already.  Each secret is for
    one device; a device has at most a few of one voucher.
    """

    def mint(
        order: SecretOrder, tenant_id: str, voucher: str
    ) -> Deferred[MintedSecret]:
        """
        Make a challenge; the device's unused ones of this voucher are
        revoked.  Of two that are made at the same time both may stay.

        :param order: for one device, of which there is one.
        :param voucher: a name of this program's own, for the audit log.
        :raises Malformed: there can be no such device.
        :raises Unavailable: not now.
        """

    def keep(
        secret: OneTimeSecret, voucher: str, most: int, since: datetime
    ) -> Deferred[OneTimeSecret]:
        """
        Keep a secret that the voucher made, so that it can be burnt.

        The same one again is no other.

        :param secret: its id is the voucher's name for it, any text; its
            digest does not count.
        :param most: how many of one device may have been kept since then,
            this one included.
        :returns: as it is kept, with an id of ours.
        :raises ChallengeRejected: the device has had too many.
        """


class IOutbound(Interface):
    """
    HTTPS to others.

    Bounded in time and size, with every certificate verified, and never to
    another place than the one that was named.
    """

    def call(call: OutboundCall) -> Deferred[OutboundReply]:
        """
        Make a call.

        :returns: the reply, whatever its status; redirects are not followed.
        :raises Unavailable: there was none in time, it was too large, or
            the place failed so often lately that it is left alone.
        """


class IRegistrar(Interface):
    """
    A proven registrar at work: makes, lists and revokes single-use secrets.

    Of one request and one tenant.  If the registrar is limited to profiles
    or names, there are no other secrets for it.
    """

    id = Attribute("The registrar, as log and audit log name it.")

    def mint(
        order: SecretOrder, offered: Collection[str], key: str | None
    ) -> Deferred[Sequence[MintedSecret]]:
        """
        Make secrets; all of them are committed when the Deferred fires.

        :param offered: the profiles that the secrets could be used with.
        :param key: the registrar's own idempotency key.  The same order
            under the same key brings the same secrets, always.
        :raises Malformed: no such pattern or fingerprint, or out of bounds.
        :raises NotAuthorized: not offered, or beyond the registrar's limits.
        :raises Conflict: the key was used for another order.
        """

    def find(
        state: SecretState | None, after: str, limit: int
    ) -> Deferred[tuple[Sequence[OneTimeSecret], str]]:
        """
        Return secrets by id, and where the next page begins, or empty.

        :param after: where the page begins, or empty.
        :param limit: at most this many; those beyond the registrar's limits
            are counted and left out, so that a page may be short.
        """

    def revoke(secret_id: str) -> Deferred[OneTimeSecret]:
        """
        Revoke a secret; see :meth:`IStore.revoke_secret`.

        :raises UnknownCertificate: there is none with this id.
        """


class IDialogues(Interface):
    """
    Transactions of several messages: kept until they expire, also beyond
    their end, so that none is begun a second time.
    """

    def find_dialogue(
        tenant_id: str,
        protocol: str,
        endpoint: str,
        transaction: str,
        now: datetime,
    ) -> Deferred[Dialogue | None]:
        """Return a dialogue that has not expired."""

    def open_dialogue(
        dialogue: Dialogue, now: datetime, limit: int | None = None
    ) -> Deferred[None]:
        """
        Keep a new dialogue.

        :param limit: how many may be charged to the same; ``None``: any
            number.  It is counted in the same transaction.
        :raises Conflict: there is one with this transaction.
        :raises Throttled: there are too many.
        """

    def count_dialogues(
        tenant_id: str, protocol: str, charged_to: str
    ) -> Deferred[int]:
        """
        Return how many dialogues are charged to somebody; one lookup.

        What has expired counts until it is forgotten.
        """

    def advance_dialogue(dialogue: Dialogue) -> Deferred[None]:
        """
        Put a dialogue in place of the one with the same version, which
        becomes the next.

        :raises Stale: somebody else has done so, or it was forgotten.
        """


class IEnquiries(Interface):
    """What may be asked of the inventory without enrolling."""

    def renewal(
        endpoint: Endpoint, key_identifier: bytes, serial: str
    ) -> Deferred[RenewalWindow]:
        """
        Return when a certificate should be renewed; one lookup.

        :param key_identifier: of its issuer.
        :raises UnknownCertificate: it is none of this endpoint's tenant and
            authorities.
        """

    def current(
        endpoint: Endpoint, names: Sequence[str]
    ) -> Deferred[tuple[bytes, ...]]:
        """
        Return the DER of the certificates that some names have now: valid,
        in date, confirmed, of the endpoint's tenant and authorities, a few
        of each.

        :param names: exact common names or subject alternative names.
        """


class IAttempts(Interface):
    """
    Bounds what challenges cost that somebody else judges.

    Kept in memory, for each process by itself.
    """

    def failed(request: EnrollmentRequest) -> None:
        """
        Count a wrong challenge: by address, device and transaction.

        To be called once it is known to be wrong, so that a right one never
        has to wait.

        :raises Throttled: there were too many; this one is not counted.
        """

    def ask(peer: str) -> None:
        """
        Count a question to somebody else, for an address.

        :raises Throttled: there were too many; it must not be put.
        """

    def judging(
        request: EnrollmentRequest, challenge: str
    ) -> AbstractContextManager[None]:
        """
        Return the context in which somebody else is asked about a challenge.

        It counts the question, and the challenge as wrong if what is done
        within raises ``ChallengeRejected``.  Who was let in is known for a
        while: his next try does not wait for wrong ones.

        :raises Throttled: on entry: there were too many; nobody is to be
            asked.
        """


class IRegistrationAuthority(Interface):
    """All that a protocol can reach."""

    credentials = Attribute("An :class:`ICredentials`.")
    challenges = Attribute("An :class:`IChallengeTokens`.")
    revocation = Attribute("An :class:`IRevocation`.")
    device_secrets = Attribute("An :class:`IDeviceSecrets`.")
    revocation_challenges = Attribute("An :class:`IRevocationChallenges`.")
    outbound = Attribute("An :class:`IOutbound`.")
    attempts = Attribute("An :class:`IAttempts`.")
    dialogues = Attribute("An :class:`IDialogues`.")
    enquiries = Attribute("An :class:`IEnquiries`.")
    key_maker = Attribute("An :class:`IKeyMaker`.")

    def now() -> datetime:
        """Return the wall clock's time, UTC."""

    def random_bytes(count: int) -> bytes:
        """Return octets from a cryptographically secure source."""

    def enroll(request: EnrollmentRequest) -> Deferred[Issued | Pending]:
        """
        Take one request all the way to a certificate.

        Idempotent: see :mod:`trstctl.ra`.  Until the intent is committed
        the Deferred may be cancelled; after that a cancel only stops the
        waiting, never the issuance.

        :raises RequestError: refused; audited; nothing was consumed.
        :raises ServiceError: not now.
        """

    def poll(request: PollRequest) -> Deferred[Issued | Pending]:
        """
        Tell what became of a request; if it was approved meanwhile, issue.

        Its transactionID and key find it, whatever else the client says.

        :raises UnknownCertificate: there is no such request, or it is
            somebody else's: nobody learns which.
        :raises RequestError: as :meth:`enroll`.
        """

    def elsewhere(
        function: Callable[..., Any], *args: object
    ) -> Awaitable[Any]:
        """Run what takes longer than the reactor's thread may in another."""

    def shielded(work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """
        Run to its end what a client that leaves must not stop; who stops the
        process waits for it.

        :returns: fires with what comes of it; to cancel it stops the waiting
            only.
        :raises Unavailable: the process is stopping; it was not begun.
        """

    def identify(
        endpoint: Endpoint,
        certificate: bytes,
        chain: tuple[bytes, ...] | None = None,
    ) -> Deferred[Principal]:
        """
        Return for whom a certificate of ours speaks, which has signed a
        question that is no enrollment.

        :param certificate: DER; its key has been proven.
        :param chain: DER of what came with it: then a factory certificate
            counts, too, where the endpoint has anchors for it.
        :raises NotAuthenticated: it is none of this endpoint's authority.
        :raises NotAuthorized: it is revoked, expired or of another tenant.
        """

    def sign_message(endpoint: Endpoint, content: bytes) -> Deferred[bytes]:
        """
        Return a CMS SignedData around octets, signed by the authority's own
        key (RFC 8894, section 4.7.1).

        :raises Unavailable: the key cannot be used now.
        """

    def ca_certificates(endpoint: Endpoint) -> tuple[bytes, ...]:
        """
        Return the DER chain of the endpoint's authority, issuer first.

        While one key of it takes over from another, what clients have to
        know of the other follows (RFC 7030, section 4.1.3).
        """

    def succession(endpoint: Endpoint) -> Succession:
        """Return what the endpoint's authority is at this moment."""

    def serving(endpoint: Endpoint) -> Endpoint:
        """
        Return the endpoint with the generation of its authority that issues
        at this moment, and with all those whose certificates count.

        Everything here that takes an endpoint does so by itself; it is for
        who compares authorities, or asks for their credentials or CRLs.
        """

    def is_lenient(endpoint: Endpoint) -> bool:
        """
        Tell whether the endpoint's profile forgives small faults.

        For :func:`trstctl.pkix.csr.read_csr`.
        """

    def csr_attributes(endpoint: Endpoint) -> CSRWishes:
        """Return what the endpoint's profile wishes to see in a request."""

    def record_refusal(
        endpoint: Endpoint,
        operation: str,
        error: Exception,
        request_id: str,
        peer: str,
    ) -> Deferred[None]:
        """
        Audit a request that was refused before it became an enrollment.

        Never fails; floods are counted rather than written one by one.
        """

    def find(tenant_id: str, serial: str) -> Deferred[CertificateRecord]:
        """
        Return a certificate of the tenant.

        :raises UnknownCertificate: none with this serial in this tenant.
        """

    def revoke(
        tenant_id: str, serial: str, reason: str, actor: str
    ) -> Deferred[CertificateRecord]:
        """
        Revoke a certificate, durably, with its audit record.

        See :meth:`IStore.revoke_certificate`.

        :param reason: a CRLReason name of RFC 5280, section 5.3.1.
        :raises UnknownCertificate: none with this serial in this tenant.
        """

    def release(
        tenant_id: str, serial: str, actor: str
    ) -> Deferred[CertificateRecord]:
        """See :meth:`IStore.release_certificate`."""

    def confirm(
        tenant_id: str, serial: str, former: str, actor: str
    ) -> Deferred[CertificateRecord]:
        """
        Hear that the client has the certificate and takes it.

        :param former: serial of the certificate that it replaces from now
            on, or empty.
        :raises UnknownCertificate: none with this serial in this tenant.
        :raises Stale: it has been revoked.
        """

    def registrar(call: RegistrarCall) -> Deferred[IRegistrar]:
        """
        Let somebody in who hands out single-use secrets.

        See :meth:`IAuthenticator.authenticate_registrar`.

        :raises NotAuthenticated: none, or a wrong credential.
        :raises Throttled: too many wrong ones.
        """


class ISigner(Interface):
    """One private key that signs; its bytes never leave the backend."""

    def public_key() -> bytes:
        """Return the DER SubjectPublicKeyInfo."""

    def sign(tbs: bytes, algorithm: str) -> Deferred[bytes]:
        """
        Sign.

        :param algorithm: a name of :mod:`trstctl.pkix.algorithms` that
            fits the key.
        :returns: the signature as X.509 carries it (DER for ECDSA).
        :raises Unavailable: the key cannot be used now.
        """


class IAuthority(Interface):
    """One issuing CA, as the registration authority uses it."""

    name = Attribute("The name that endpoints refer to.")
    certificate = Attribute("DER of the CA certificate.")
    chain = Attribute("DER tuple: the CA certificate first, the root last.")
    not_after = Attribute("Aware datetime: the CA certificate's end.")
    algorithm = Attribute("The signature algorithm that suits its key.")
    signs_crls = Attribute("Whether the certificate's key usage has cRLSign.")

    def prepare(approved: Approved, serial: str) -> bytes:
        """
        Return the DER TBSCertificate; no signature is made.

        Deterministic: the same arguments give the same bytes.
        """

    def sign(tbs: bytes) -> Deferred[bytes]:
        """
        Sign, verify the signature just made, and return the certificate.

        :raises Unavailable: the signer cannot be reached or is saturated.
        :raises Internal: the signature does not verify.
        """

    def sign_crl(tbs: bytes) -> Awaitable[bytes]:
        """
        Sign a DER TBSCertList, verify, and return the CRL.

        However long it is, the reactor's thread does not wait for it.

        :raises Unavailable: as of :meth:`sign`.
        :raises Internal: the signature does not verify.
        """

    def sign_message(attributes: bytes) -> Deferred[bytes]:
        """
        Return the signature over the signed attributes of a CMS message.

        :param attributes: a DER SET, which no certificate and no CRL is.
        :raises Unavailable: the signer cannot be reached or is saturated.
        :raises Internal: it is no SET, or the signature does not verify.
        """

    def check() -> Deferred[None]:
        """
        Prove that the key still signs, on bytes that are no certificate.

        :raises Unavailable: it does not.
        """

    def issued(certificate: CertificateFacts) -> bool:
        """Tell whether this authority's key signed the certificate."""


class IAuthenticator(Interface):
    """Proves who asks."""

    def authenticate(
        request: EnrollmentRequest, now: datetime
    ) -> Deferred[Principal]:
        """
        Prove the request's credentials; each one present must be right.

        One exception: a client certificate that neither this endpoint's
        authority issued nor one of the endpoint's factory anchors vouches
        for counts as not presented.  Where several are right: for a renewal
        the certificate speaks; else one-time token, bearer, basic,
        certificate, in this order.

        A certificate of this authority must not be from the future, and
        must be in the tenant's inventory, byte for byte, and not revoked;
        nor may the one that has replaced it be.
        Whether an expired one may still renew is the profile's decision;
        for anything but a renewal it is refused here.  One that was revoked
        as superseded passes for a renewal, so that who lost the answer gets
        the certificate that replaced it; the principal's record says so,
        and nothing new may be issued for it.

        With id-kp-cmcRA it speaks for others within the endpoint's scopes:
        then the principal is an ``ra``, whose patterns are the scope's, and
        for a renewal it has the certificate to be renewed, the newest of
        the requested subject and names.

        :raises NotAuthenticated: none, or a wrong one; the same error and
            the same work for unknown and wrong.
        :raises NotAuthorized: the certificate is revoked or expired, or
            what is asked is beyond the scope.
        :raises UnknownCertificate: a registration authority renews what is
            not there.
        :raises Throttled: too many wrong ones.
        """

    def identify(
        endpoint: Endpoint,
        certificate: bytes,
        now: datetime,
        chain: tuple[bytes, ...] | None = None,
    ) -> Deferred[Principal]:
        """See :meth:`IRegistrationAuthority.identify`."""

    def authenticate_asker(
        request: PollRequest, now: datetime
    ) -> Deferred[Principal | None]:
        """
        Prove the password or bearer token that came with a question.

        What else came with it counts for nothing here.

        :returns: fires with whose it is, of several the bearer token's;
            ``None``: there is none.
        :raises NotAuthenticated: one of them is wrong.
        :raises Throttled: too many were.
        """

    def authenticate_registrar(
        call: RegistrarCall, now: datetime
    ) -> Deferred[Principal]:
        """
        Prove who wants to hand out secrets: a bearer token of its own kind.

        A client certificate counts for nothing here.

        :raises NotAuthenticated: none, or a wrong one, such as a device's.
        :raises Throttled: too many wrong ones.
        """


class IProfilePolicy(Interface):
    """One certificate profile.  Synchronous and pure."""

    name = Attribute("The profile's name.")
    version = Attribute("Hexadecimal digest of its settings.")
    retry_after = Attribute("Seconds that a held request is asked to wait.")
    lenient = Attribute("Whether small faults of requests are forgiven.")
    renewal_window = Attribute(
        "Timedelta before a certificate's end from which on it can be "
        "renewed; ``None``: at any time."
    )
    revoke_on_reenroll = Attribute(
        "Whether a renewal revokes the certificate that it replaces."
    )

    def decide(
        request: EnrollmentRequest,
        principal: Principal,
        now: datetime,
        ca_not_after: datetime,
        approved: bool,
    ) -> Approved | Held:
        """
        Judge every rule; the first that fails refuses.

        Runs before any signature check: it judges the key, too.

        :param approved: a person has approved this very request.
        :raises PolicyViolation: naming profile and rule.
        :raises UnsupportedAlgorithm: a weak or unlisted key or hash.
        :raises NotAuthorized: the principal may not use this profile.
        """

    def explain(
        request: EnrollmentRequest,
        principal: Principal,
        now: datetime,
        ca_not_after: datetime,
    ) -> Sequence[Verdict]:
        """Judge every rule and return all verdicts, in order."""

    def wishes() -> CSRWishes:
        """Return what a request should contain."""


class IStore(IDialogues):
    """
    State that matters, shared by every process and node.

    Every write is one transaction with its audit record; a Deferred that
    fires with success fires after the commit is durable.  A write whose
    transaction fails leaves nothing behind.  Every method but
    :meth:`check`, :meth:`close`, the lease methods and what concerns an
    authority's revocations is confined to one tenant, which is in its
    arguments.

    A store that cannot write fails with ``Unavailable``.
    """

    # issuance ---------------------------------------------------------------

    def find_request(
        key: RequestKey, now: datetime, lapsed: bool = False
    ) -> Deferred[StoredRequest | None]:
        """
        Return the request that holds the key, unless it has expired.

        The key of an open request does not expire: what is being signed
        right now must not be signed a second time.

        :param lapsed: also return one whose key has expired, as long as
            nobody else has taken the key.
        """

    def find_transactions(
        tenant_id: str,
        protocol: str,
        endpoint: str,
        transaction: str,
        now: datetime,
        *,
        principals: Collection[str],
        fingerprint: str = "",
    ) -> Deferred[Sequence[StoredRequest]]:
        """
        Return the requests with a transactionID, newest first, at most 16, of
        these principals or for the key with this fingerprint: anybody can
        name a transactionID.

        A request whose key has expired is not among them, unless it is open
        or approved.
        """

    def hold(
        request: NewRequest, now: datetime, limit: int | None = None
    ) -> Deferred[StoredRequest]:
        """
        Keep a request for a person to decide; audit ``request.held``.

        A single-use secret that pays for it is reserved, in the same
        transaction and by the rules of :meth:`open_intent`: it serves this
        request only, however long the decision takes, and is free again once
        the request is denied or its key has expired undecided.

        If the key is taken: the row that holds it, unchanged, except that
        an abandoned row is held again (an approval, too, must then be given
        again).  An approved row whose key has expired is not found by the
        following rule; adoption is audited as ``request.adopted``.  Else,
        if a held or approved row has the same tenant, protocol, endpoint,
        operation, principal, profile, subject, names and public key (a
        client that built its request anew): that row, now under this key
        and fingerprint and with this CSR.

        :raises Conflict: the key is taken by another fingerprint; or the
            transactionID is, in the same protocol, endpoint and principal,
            by a request that is open, or held or approved within its life.
        :raises ChallengeRejected: as :meth:`open_intent`.
        :raises Throttled: it would be one more than ``limit`` that wait, in
            their lives, for the same principal of the tenant; all who are
            ``anonymous`` are one.
        """

    def open_intent(
        intent: Intent, now: datetime
    ) -> Deferred[Opened | StoredRequest]:
        """
        Commit the intent to sign; the point of no return.

        In one transaction: find the key; if it is free, or its row is
        approved or abandoned with the same fingerprint: burn the secret,
        write the request row and the intent, audit ``intent.opened``.
        If its row is held, denied, open or issued: change nothing and
        return it.

        The secret (``secret_id``) must be in date, not revoked, and not
        burnt, or burnt for this very public key and request by an intent
        that was abandoned since: a secret whose intent is open or issued
        buys nothing more, whatever the key; one with several ``uses`` buys
        that many, each for a key of its own.  A secret that is reserved
        for this very request is in date.  It is in date by the latest
        time that the tenant's audit log has seen.  A secret that is bound to
        a public key is for that key only.

        The key's life is never shortened.  A store may skip the call if the
        Deferred is cancelled early, and retires the intent if it is
        cancelled while the commit is under way.

        :returns: ``Opened``, or the row that answers instead.
        :raises Conflict: the key or the transactionID is taken by another
            fingerprint, as for :meth:`hold`.
        :raises ChallengeRejected: the secret cannot be burnt; ``reused`` if
            it was burnt for another public key.
        :raises UnsupportedAlgorithm: a certificate of this public key was
            revoked in this tenant because the key was compromised.
        :raises SerialTaken: choose another serial and try again.
        :raises Unavailable: ``now`` is more than 60 s before the tenant's
            last audit record: the clock cannot be trusted.
        """

    def record_certificate(
        intent: Intent, certificate: bytes, now: datetime
    ) -> Deferred[CertificateRecord]:
        """
        Commit the signed certificate; audit ``certificate.issued``.

        In one transaction: the intent must still be open (else ``Stale``,
        and the certificate must be thrown away); the intent and its request
        become issued; the inventory row is written.
        """

    def abandon_intent(
        intent: Intent, reason: str, now: datetime
    ) -> Deferred[None]:
        """
        Retire an open intent; audit ``intent.abandoned`` with its serial.

        The serial is never signed again and counts as revoked.  Idempotent;
        an issued intent stays issued.
        """

    def retire_orphans(now: datetime) -> Deferred[int]:
        """
        Retire each open intent whose owner is gone, in all tenants.

        Gone: its lease ran out, or the store can see that the process has
        ended, or it has neither a lease nor a process that can be seen.
        An owner's name must be new at each start of a process: a successor
        of the same name would shield what its predecessor left behind.

        :returns: how many were retired.
        """

    def renew_lease(owner: str, until: datetime) -> Deferred[None]:
        """Declare that the owner lives until then."""

    def release_lease(owner: str) -> Deferred[None]:
        """Declare that the owner has ended."""

    # held requests ----------------------------------------------------------

    def list_requests(
        tenant_id: str, state: RequestState | None, limit: int
    ) -> Deferred[Sequence[StoredRequest]]:
        """Return requests, oldest first."""

    def decide_request(
        tenant_id: str,
        request_id: str,
        approve: bool,
        actor: str,
        reason: str,
        now: datetime,
        key_expires: datetime,
    ) -> Deferred[StoredRequest]:
        """
        Approve or deny a held request; audit ``request.approved|denied``.

        :param key_expires: new end of the idempotency key's life.
        :raises UnknownCertificate: no such request in the tenant, or it was
            never held.
        :raises Stale: it is no longer held.
        """

    # inventory --------------------------------------------------------------

    def find_certificate(
        tenant_id: str, serial: str
    ) -> Deferred[CertificateRecord | None]:
        """Return one certificate, with its DER."""

    def list_certificates(
        query: CertificateQuery,
    ) -> Deferred[Sequence[CertificateRecord]]:
        """
        Return certificates without DER: by issue time, newest first; with
        ``expiring_before``, by expiry, soonest first.

        :raises UnknownCertificate: ``after`` is no serial of the tenant.
        """

    def revoke_certificate(
        tenant_id: str, serial: str, reason: str, actor: str, now: datetime
    ) -> Deferred[CertificateRecord]:
        """
        Revoke; audit ``certificate.revoked``.

        Idempotent: a revoked certificate keeps its time and reason, except
        that one on hold (``certificateHold``) takes another reason, and any
        takes ``keyCompromise``; the time stays.

        :param reason: one of :data:`~trstctl.model.REVOCATION_REASONS`.
        :raises Malformed: there is no such reason.
        :raises UnknownCertificate: no such certificate in the tenant.
        """

    def release_certificate(
        tenant_id: str, serial: str, actor: str, now: datetime
    ) -> Deferred[CertificateRecord]:
        """
        Take a certificate off hold; audit ``certificate.released``.

        It is valid then, or superseded, if another has taken its place.
        Idempotent: a valid certificate stays what it is.

        :raises UnknownCertificate: no such certificate in the tenant.
        :raises Stale: it is revoked for good, or superseded.
        """

    def supersede_certificate(
        tenant_id: str, serial: str, by: str, actor: str, now: datetime
    ) -> Deferred[CertificateRecord]:
        """
        Record that another certificate has taken its place; audit
        ``certificate.superseded``.

        Idempotent.  A valid certificate becomes superseded, which revokes
        nothing; one on hold, or revoked, stays so, and is superseded once it
        is released.

        :param by: the serial of the other one.
        :raises UnknownCertificate: no such certificates in the tenant.
        """

    def confirm_certificate(
        tenant_id: str, serial: str, actor: str, now: datetime
    ) -> Deferred[CertificateRecord]:
        """
        Record that the client takes the certificate; audit
        ``certificate.confirmed``.

        Idempotent: nothing changes if nobody waits for it.

        :raises UnknownCertificate: no such certificate in the tenant.
        :raises Stale: it has been revoked.
        """

    def list_unconfirmed(
        before: datetime, limit: int
    ) -> Deferred[Sequence[CertificateRecord]]:
        """
        Return the certificates that should have been confirmed before a
        time and were not, of all tenants.
        """

    def purge_dialogues(now: datetime) -> Deferred[None]:
        """Forget the dialogues that have expired, of all tenants."""

    def count_certificates(
        tenant_id: str, now: datetime
    ) -> Deferred[Mapping[str, int]]:
        """
        Return counts: ``valid``, ``revoked``, ``expired``,
        ``expiring_7d``, ``expiring_30d`` and ``held_requests``.
        """

    # an authority's revocations, in all tenants -----------------------------

    def find_status(
        authority: str, serial: str
    ) -> Deferred[SerialStatus | None]:
        """
        Return the status of a serial; ``None`` if it was never promised.

        The serial of an intent that is open is good: nobody has seen it.
        """

    def list_revoked(
        query: RevocationQuery,
    ) -> Deferred[Sequence[SerialStatus]]:
        """Return revoked serials, the least first."""

    def last_revocation(authority: str) -> Deferred[datetime | None]:
        """
        Return when a serial was last revoked, abandoned or released.

        Each of these moves it on, also where the clocks of two processes
        differ: if it is what it was, nothing was left out.
        """

    def next_crl_number(authority: str) -> Deferred[int]:
        """Return a CRLNumber that nobody got before, greater than all."""

    def save_crl(crl: StoredCRL, actor: str) -> Deferred[None]:
        """
        Keep a CRL in place of its scope's last one; audit
        ``crl.published`` in the gateway's own tenant.

        :raises Stale: the scope has one of the same or a greater number.
        """

    def find_crl(
        authority: str, scope: str, unless: int
    ) -> Deferred[StoredCRL | None]:
        """
        Return the CRL of a scope; ``None`` if there is none, or if its
        number is ``unless``, so that nobody reads again what he has.
        """

    def crl_scopes(authority: str) -> Deferred[Sequence[str]]:
        """Return every scope that was ever published."""

    # generations of an authority --------------------------------------------

    def list_generations() -> Deferred[Sequence[Generation]]:
        """Return the generations of all authorities, by name and number."""

    def add_generation(generation: Generation, actor: str) -> Deferred[None]:
        """
        Add a generation that is prepared; audit ``generation.prepared`` in
        the gateway's own tenant.

        :raises Conflict: another one of this authority is prepared or
            active, or has this number or name.
        """

    def advance_generation(
        name: str,
        expected: Phase,
        phase: Phase,
        actor: str,
        now: datetime,
        vacated: str = "",
    ) -> Deferred[Generation]:
        """
        Take a generation to another phase; audit ``generation.activated``,
        ``.deactivated``, ``.finished`` or ``.dropped``.

        From prepared to active or dropped, from active to finished or back
        to prepared.

        :param vacated: the generation that this step is only for if it has
            nothing valid outstanding, which is counted in the transaction of
            the step; empty: whatever it has.
        :raises Conflict: it has; the text says how much.
        :raises UnknownCertificate: there is no such generation.
        :raises Stale: it is in another phase than expected, or there is no
            such step.
        """

    def outstanding(authority: str, now: datetime) -> Deferred[Outstanding]:
        """Return what a generation has issued that has not expired."""

    # credentials ------------------------------------------------------------

    def find_credential(
        tenant_id: str, kind: str, name: str
    ) -> Deferred[CredentialRecord | None]:
        """Return one standing credential, also a revoked one."""

    def add_credential(record: CredentialRecord, actor: str) -> Deferred[None]:
        """
        Add; audit ``credential.added``.

        A revoked credential of the same name is replaced.

        :raises Conflict: a live one of this kind and name exists.
        """

    def list_credentials(
        tenant_id: str,
    ) -> Deferred[Sequence[CredentialRecord]]:
        """Return all standing credentials, by kind and name."""

    def revoke_credential(
        tenant_id: str, kind: str, name: str, actor: str, now: datetime
    ) -> Deferred[None]:
        """
        Revoke; audit ``credential.revoked``.  Idempotent.

        :raises UnknownCertificate: no such credential in the tenant.
        """

    def find_secret(
        tenant_id: str, digest: str
    ) -> Deferred[OneTimeSecret | None]:
        """Return the single-use secret with this SHA-256."""

    def find_secret_by_id(
        tenant_id: str, secret_id: str
    ) -> Deferred[OneTimeSecret | None]:
        """Return the single-use secret with this public id."""

    def add_secrets(
        secrets: Sequence[OneTimeSecret], actor: str
    ) -> Deferred[None]:
        """
        Add all or none; audit ``secret.added`` for each.

        :raises Conflict: one with this id or digest exists.
        """

    def list_secrets(
        tenant_id: str,
        state: SecretState | None,
        now: datetime,
        after: str,
        limit: int,
    ) -> Deferred[Sequence[OneTimeSecret]]:
        """
        Return single-use secrets by id.

        :param state: of this state at ``now`` only; ``None`` for all.
        :param after: the id that the last page ended with, or empty.
        """

    def revoke_secret(
        tenant_id: str, secret_id: str, actor: str, now: datetime
    ) -> Deferred[OneTimeSecret]:
        """
        Revoke; audit ``secret.revoked``.  Idempotent.

        The certificate of a burnt one stays what it is.

        :raises UnknownCertificate: no such secret in the tenant.
        """

    # audit ------------------------------------------------------------------

    def append_audit(events: Sequence[AuditEvent]) -> Deferred[None]:
        """Append to the tenants' chains."""

    def audit_records(
        tenant_id: str, after: int, limit: int
    ) -> Deferred[Sequence[AuditRecord]]:
        """Return records with a greater sequence than ``after``."""

    def audit_tenants() -> Deferred[Sequence[str]]:
        """Return every tenant that has a chain."""

    # life -------------------------------------------------------------------

    def check() -> Deferred[None]:
        """
        Write something durably, and take it back.

        :raises Unavailable: the store cannot write.
        """

    def close() -> Deferred[None]:
        """Finish what was queued, then close."""


class IAuditSink(Interface):
    """Somewhere else that audit records go, after they are committed."""

    def emit(record: AuditRecord) -> None:
        """Take one record; never raise, never block."""
