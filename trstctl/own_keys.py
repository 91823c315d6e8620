# SPDX-License-Identifier: MIT
"""
The gateway's own keys and certificates.

Theory of operation
===================

O-1  *The way of every other.*  A certificate of the gateway's own goes
     through profile, intent, signature, inventory and audit, too; its
     profile is hidden, and for the gateway only.
O-2  *One file.*  Key and certificate are replaced together, at once, so that
     they always fit; several processes of one host may share the file.
     What another one has put there is seen within a second.
O-3  *Renewed in time*, with a new key, when a third of the life is left.
     While that fails, the old one serves on to its end.
O-4  *The one before is kept* until it ends: a device that has cached the
     old certificate may still encrypt to it.
O-5  *Never the CA's key.*
O-6  *Not at everybody's will.*  A message of a stranger's may be what a key
     is made for.  So what failed rests: else each one would have another
     certificate issued, or promised, and recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.logger import Logger
from zope.interface import implementer

from trstctl.backends.keyfiles import (
    KeyFileError,
    private_directory,
    read_certificates,
    read_private_key,
    replace_file,
    to_pem,
)
from trstctl.errors import (
    Internal,
    TrstctlError,
    Unavailable,
    UnknownCertificate,
)
from trstctl.interfaces import IAuthority, ICredentials, IMessageCredential
from trstctl.model import (
    SYSTEM_TENANT,
    CertificateFacts,
    Endpoint,
    EnrollmentRequest,
    Issued,
    Operation,
    Purpose,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.csr import read_csr
from trstctl.ra import RegistrationAuthority
from trstctl.rules import Rules

#: Where the message credentials are, below the state directory.
CREDENTIALS_DIRECTORY = "credentials"

_Key = CertificateIssuerPrivateKeyTypes

#: Returns a fresh key and a DER certification request for it.
NewRequest = Callable[[], Awaitable[tuple[_Key, bytes]]]

_RSA_BITS = 2048

#: For how long a file is taken to be the one that it was.
_GLANCE = timedelta(seconds=1)

#: Until what could not be renewed is tried again.
_PAUSE = timedelta(minutes=10)

#: Likewise where there is nothing to serve with meanwhile.
_REST = timedelta(seconds=10)

_TITLES = {
    Purpose.OCSP: "OCSP responder",
    Purpose.SCEP: "SCEP registration authority",
    Purpose.CMP: "CMP registration authority",
    Purpose.KGA: "key generation authority",
}


@frozen
class OwnPair:
    """A key with its certificates: DER, the key's own first, the root last."""

    key: _Key
    chain: tuple[bytes, ...]
    facts: CertificateFacts

    @property
    def due(self) -> datetime:
        """When a third of the life is left (O-3)."""
        facts = self.facts
        return facts.not_after - (facts.not_after - facts.not_before) / 3


def stamp_of(path: Path) -> tuple[int, int]:
    """Return what changes whenever the file is replaced."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_ino, found.st_mtime_ns)


class OwnKey:
    """
    One key of the gateway's own, kept in one file with its certificate.

    :param path: the file.
    :param profile: the hidden profile that certifies it.
    :param new_request: makes key and request.
    :param fits: tells whether a certificate that is good is still the one
        that is wanted.
    """

    _log = Logger()

    def __init__(
        self,
        ra: RegistrationAuthority,
        path: Path,
        profile: str,
        authority: str,
        new_request: NewRequest,
        fits: Callable[[CertificateFacts], bool],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._ra = ra
        self._path = path
        self._profile = profile
        self._authority = authority
        self._new_request = new_request
        self._fits = fits
        self._random_bytes = random_bytes

    @property
    def _before(self) -> Path:
        """The file of the one before (O-4)."""
        return self._path.with_suffix(".previous.pem")

    async def current(self, rules: Rules) -> OwnPair:
        """
        Return the pair in use; make another if need be.

        :param rules: of the configuration that it is for.
        :raises TrstctlError: none is good, and none can be made now.
        """
        kept = self._read(self._path)
        if kept is not None and not self._wanted(kept, rules):
            kept = None
        if kept is not None and self._ra.now() < kept.due:
            return kept
        try:
            return await self._made(rules, kept)
        except TrstctlError:
            if kept is None or kept.facts.not_after <= self._ra.now():
                raise
            self._log.failure(
                "a certificate of the gateway could not be renewed",
                event="credential.unrenewed",
                profile=self._profile,
                authority=self._authority,
            )
            return kept  # O-3

    def previous(self) -> OwnPair | None:
        """Return the pair before the one in use, while it is good (O-4)."""
        pair = self._read(self._before)
        if pair is None or pair.facts.not_after <= self._ra.now():
            return None
        return pair

    def _wanted(self, pair: OwnPair, rules: Rules) -> bool:
        """Tell whether the authority of these rules issued what fits."""
        authority = rules.authorities[self._authority]
        return (
            pair.chain[1:] == tuple(authority.chain)
            and self._fits(pair.facts)
            and authority.issued(pair.facts)
        )

    def _read(self, path: Path) -> OwnPair | None:
        """Return the pair in a file, if there is a whole one."""
        if not path.exists():
            return None
        try:
            chain = read_certificates(path)
            key = read_private_key(path)
        except KeyFileError:
            # Half of a restore, say: a new one is as good.
            return None
        return OwnPair(key, chain, read_certificate(chain[0]))

    async def _made(self, rules: Rules, kept: OwnPair | None) -> OwnPair:
        """Make a key, have it certified, and keep both in one file."""
        # Before anything is issued: where it cannot be kept, it must not be.
        private_directory(self._path.parent)
        key, request = await self._new_request()
        outcome = await self._ra.enroll_own(
            EnrollmentRequest(
                endpoint=Endpoint(
                    "gateway",
                    "",
                    SYSTEM_TENANT,
                    self._profile,
                    self._authority,
                ),
                operation=Operation.ENROLL,
                wanted=read_csr(request),
                credentials=(),
                request_id=self._random_bytes(8).hex(),
                peer="",
            ),
            rules,
        )
        if not isinstance(outcome, Issued):
            raise Internal("a certificate of the gateway was not issued")
        chain = (outcome.certificate, *outcome.chain)
        if kept is not None:
            replace_file(self._before, _as_file(kept.key, kept.chain), 0o600)
        replace_file(self._path, _as_file(key, chain), 0o600)
        return OwnPair(key, chain, read_certificate(chain[0]))


def _as_file(key: _Key, chain: Sequence[bytes]) -> bytes:
    """Return key and certificates as PEM."""
    octets = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return octets + to_pem(chain)


# --- message credentials ----------------------------------------------------


@frozen
class _Loaded:
    """
    What was made of a file.

    :ivar issuer: the authority at that time; a reload makes another.
    :ivar path: of the file.
    :ivar stamp: which file it was.
    :ivar until: when to look whether it must be renewed.
    :ivar credentials: newest first.
    """

    issuer: IAuthority
    path: Path
    stamp: tuple[int, int]
    until: datetime
    credentials: tuple[IMessageCredential, ...]


@implementer(ICredentials)
class OwnCredentials:
    """
    The gateway's own keys for messages, made when they are first asked for.

    :param state: the state directory.
    :param run: runs a slow function in a thread.
    :param make: makes a credential of key and chain.
    """

    _log = Logger()

    def __init__(
        self,
        ra: RegistrationAuthority,
        state: Path,
        run: Callable[..., Awaitable[_Key]],
        make: Callable[[_Key, tuple[bytes, ...]], IMessageCredential],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._ra = ra
        self._directory = state / CREDENTIALS_DIRECTORY
        self._run = run
        self._make = make
        self._random_bytes = random_bytes
        self._loaded: dict[tuple[str, Purpose], _Loaded] = {}
        # When each file was last looked at.
        self._looked: dict[tuple[str, Purpose], datetime] = {}
        # When what failed, and of which authority.
        self._failed: dict[
            tuple[str, Purpose], tuple[IAuthority, datetime]
        ] = {}
        self._making = DeferredLock()

    def get(
        self, authority: str, purpose: Purpose
    ) -> Deferred[IMessageCredential]:
        """See :meth:`trstctl.interfaces.ICredentials.get`."""
        return self.known(authority, purpose).addCallback(itemgetter(0))

    def known(
        self, authority: str, purpose: Purpose
    ) -> Deferred[Sequence[IMessageCredential]]:
        """See :meth:`trstctl.interfaces.ICredentials.known`."""
        loaded = self._good(authority, purpose)
        if loaded is not None:
            return succeed(loaded.credentials)

        def load() -> Deferred[Sequence[IMessageCredential]]:
            return Deferred.fromCoroutine(self._load(authority, purpose))

        # One at a time: else two requests would make two keys.
        return self._making.run(load)

    async def tend(self) -> None:
        """Renew in time what is in use, ahead of the requests for it."""
        for authority, purpose in list(self._loaded):
            if authority not in self._ra.rules.authorities:
                continue
            try:
                await self.known(authority, purpose)
            except Exception:  # noqa: BLE001 - the others are renewed, too
                self._log.failure(
                    "a certificate of the gateway could not be made",
                    event="credential.unrenewed",
                    profile=f"gateway-{purpose.value}",
                    authority=authority,
                )

    def _good(self, authority: str, purpose: Purpose) -> _Loaded | None:
        """Return what is loaded, while it is what the file holds, and good."""
        key, now = (authority, purpose), self._ra.now()
        loaded = self._loaded.get(key)
        if (
            loaded is None
            or loaded.issuer is not self._ra.rules.authorities.get(authority)
            or now >= loaded.until
        ):
            return None
        # Each message asks for its key; the file is looked at now and then.
        if not timedelta(0) <= now - self._looked[key] < _GLANCE:
            if stamp_of(loaded.path) != loaded.stamp:
                return None
            self._looked[key] = now
        return loaded

    async def _load(
        self, authority: str, purpose: Purpose
    ) -> Sequence[IMessageCredential]:
        """Load the file, unless another request has just done it."""
        loaded = self._good(authority, purpose)
        if loaded is not None:
            return loaded.credentials
        rules = self._ra.rules
        issuer = rules.authorities.get(authority)
        if issuer is None:
            raise UnknownCertificate
        own = self._own(authority, purpose, issuer)
        self._let_rest(authority, purpose, issuer)
        try:
            current = await own.current(rules)
        except BaseException:
            self._failed[authority, purpose] = (issuer, self._ra.now())
            raise
        pairs = [current]
        before = own.previous()
        if before is not None:
            pairs.append(before)
        now, path = self._ra.now(), self._path(authority, purpose)
        loaded = _Loaded(
            issuer,
            path,
            stamp_of(path),
            # What could not be renewed is not tried again at each request.
            max(current.due, now + _PAUSE),
            tuple(self._make(pair.key, pair.chain) for pair in pairs),
        )
        self._loaded[authority, purpose] = loaded
        self._looked[authority, purpose] = now
        return loaded.credentials

    def _let_rest(
        self, authority: str, purpose: Purpose, issuer: IAuthority
    ) -> None:
        """Refuse to try again what this authority has just failed at (O-6)."""
        failed = self._failed.get((authority, purpose))
        if failed is None or failed[0] is not issuer:
            return  # nothing, or before a reload
        if failed[1] <= self._ra.now() < failed[1] + _REST:
            raise Unavailable("the gateway's key cannot be made now")

    def _path(self, authority: str, purpose: Purpose) -> Path:
        """Return the file of a credential."""
        return self._directory / f"{authority}-{purpose.value}.pem"

    def _own(
        self, authority: str, purpose: Purpose, issuer: IAuthority
    ) -> OwnKey:
        """Return where the key of a purpose is kept, and how it is made."""
        ca_key = read_certificate(issuer.chain[0]).public_key
        is_rsa = purpose is Purpose.SCEP or ca_key.algorithm == "rsa"

        async def new_request() -> tuple[_Key, bytes]:
            key = await self._run(_new_key, is_rsa)
            return key, _request(key, f"{authority} {_TITLES[purpose]}")

        return OwnKey(
            self._ra,
            self._path(authority, purpose),
            f"gateway-{purpose.value}",
            authority,
            new_request,
            lambda facts: (facts.public_key.algorithm == "rsa") == is_rsa,
            self._random_bytes,
        )


def _new_key(is_rsa: bool) -> _Key:
    """
    Return a fresh key.

    RSA where messages are encrypted to it, or where the CA's key is one:
    who verifies that may know nothing else.
    """
    if is_rsa:
        return rsa.generate_private_key(65537, _RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def _request(key: _Key, common_name: str) -> bytes:
    """Return a DER certification request for a key of the gateway's own."""
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    subject = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name[:64])]
    )
    request = x509.CertificateSigningRequestBuilder(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
