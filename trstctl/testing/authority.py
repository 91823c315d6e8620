# SPDX-License-Identifier: MIT
"""A CA and registration authorities: a real one and a stub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from trstctl.backends.attempts import Attempts
from trstctl.backends.authenticators import StoreAuthenticator
from trstctl.backends.store_memory import MemoryStore
from trstctl.ca.authority import Authority
from trstctl.ca.ceremony import make_issuing, make_root
from trstctl.ca.edition import Issuer
from trstctl.ca.publisher import Publisher
from trstctl.challenges import ChallengeTokens
from trstctl.enquiries import Enquiries
from trstctl.interfaces import (
    IAuthority,
    IChallengeTokens,
    ICredentials,
    IDeviceSecrets,
    IProfilePolicy,
    IRegistrar,
    IRegistrationAuthority,
    IRevocation,
    IRevocationChallenges,
    ISigner,
    IStore,
)
from trstctl.key_maker import KeyMaker
from trstctl.model import (
    CertificateRecord,
    CSRWishes,
    Endpoint,
    EnrollmentRequest,
    Issued,
    Pending,
    PollRequest,
    Principal,
    RegistrarCall,
    Succession,
)
from trstctl.pkix import algorithms
from trstctl.policy.profile import Profile, ProfileSettings, builtin_profiles
from trstctl.ra import RegistrationAuthority, unmarked
from trstctl.revocation_challenges import RevocationChallenges
from trstctl.rules import Rules, Windows
from trstctl.testing.credentials import FakeCredentials
from trstctl.testing.outbound import FakeOutbound
from trstctl.testing.requests import CHALLENGE_KEYS, Key
from trstctl.testing.revocation import FakeRevocation
from trstctl.testing.time import EPOCH, DeterministicBytes, WallClock
from trstctl.vouching import DeviceSecrets


@implementer(ISigner)
class FakeSigner:
    """
    A P-256 key that signs, waits, fails or errs as the test wants.

    :ivar signed: everything that it was asked to sign, in order.
    :ivar error: fail with this from now on; ``None``: sign.
    :ivar paused: keep the answers back until :meth:`release`.
    :ivar forging: make signatures that do not verify.
    """

    def __init__(self, key: Key | None = None) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.signed: list[bytes] = []
        self.error: Exception | None = None
        self.paused = False
        self.forging = False
        self._waiting: list[tuple[Deferred[bytes], bytes]] = []

    def public_key(self) -> bytes:
        """Return the DER SubjectPublicKeyInfo."""
        return self.key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, tbs: bytes, algorithm: str) -> Deferred[bytes]:
        """Sign, or do what the test wants instead."""
        self.signed.append(tbs)
        if self.error is not None:
            return fail(self.error)
        signature = algorithms.sign(
            self.key, algorithm, tbs + b"!" if self.forging else tbs
        )
        if not self.paused:
            return succeed(signature)
        answer: Deferred[bytes] = Deferred()
        self._waiting.append((answer, signature))
        return answer

    def release(self) -> None:
        """Give the answers that were kept back, and keep none any more."""
        self.paused = False
        waiting, self._waiting = self._waiting, []
        for answer, signature in waiting:
            if not answer.called:
                answer.callback(signature)


def make_authority(
    name: str = "issuing",
    *,
    signer: FakeSigner | None = None,
    now: datetime = EPOCH,
    random_bytes: Callable[[int], bytes] | None = None,
    reached: Callable[[str], None] = unmarked,
) -> Authority:
    """
    Return an issuing CA below a fresh root, both P-256, in memory.

    :param name: what endpoints call it.
    :param signer: its key.
    :param now: when both certificates begin.
    :param reached: called with the name of a failure point inside.
    """
    signer = signer or FakeSigner()
    random_bytes = random_bytes or DeterministicBytes(f"CA {name}")
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = make_root(root_key, f"{name} root", now, random_bytes)
    issuing = make_issuing(
        root_key, root, signer.public_key(), f"{name} CA", now, random_bytes
    )
    return Authority(name, issuing, (issuing, root), signer, reached=reached)


def make_ra(
    store: IStore | None = None,
    *,
    authorities: Mapping[str, IAuthority] | None = None,
    profiles: Mapping[str, IProfilePolicy | ProfileSettings] | None = None,
    clock: Clock | None = None,
    now: Callable[[], datetime] | None = None,
    random_bytes: Callable[[int], bytes] | None = None,
    owner: str = "test",
    windows: Windows | None = None,
    reached: Callable[[str], None] = unmarked,
) -> RegistrationAuthority:
    """
    Return the real registration authority over what tests can hold.

    Two of them on one store are two processes on one database; give them
    different ``owner`` and ``random_bytes`` then.

    :param store: an empty :class:`MemoryStore` by default.
    :param authorities: by name; by default one :func:`make_authority`
        called ``issuing``.
    :param profiles: by name, beside the built-in ones.
    :param clock: drives every timer; advance it.
    :param now: the wall clock; by default a :class:`WallClock` with it.
    :param reached: called with the name of each failure point.
    """
    if store is None:
        store = _as_store(MemoryStore())
    clock = clock or Clock()
    random_bytes = random_bytes or DeterministicBytes(owner)
    rules = Rules(
        authorities or {"issuing": _as_authority(make_authority())},
        _policies({**builtin_profiles(), **(profiles or {})}),
    )
    ra: RegistrationAuthority
    authenticator: Any = StoreAuthenticator(
        store,
        lambda: ra.rules.authorities,
        clock,
        _run_now,
        random_bytes,
    )
    ra = RegistrationAuthority(
        store=store,
        rules=rules,
        authenticator=authenticator,
        clock=clock,
        now=now or WallClock(clock),
        random_bytes=random_bytes,
        owner=owner,
        windows=windows,
        reached=reached,
    )
    ra.credentials = _as_credentials(FakeCredentials(rules.authorities))
    ra.challenges = _as_challenges(
        ChallengeTokens(store, lambda: CHALLENGE_KEYS, clock)
    )
    device_secrets: Any = DeviceSecrets(
        store, ra.challenges, ra.now, random_bytes
    )
    ra.device_secrets = device_secrets
    revoking: Any = RevocationChallenges(clock, execute, log2_n=1)
    ra.revocation_challenges = revoking
    maker: Any = KeyMaker(execute)
    ra.key_maker = maker
    others: Any = FakeOutbound()
    ra.outbound = others
    attempts: Any = Attempts(clock)
    ra.attempts = attempts
    ra.revocation = _as_revocation(
        Publisher(
            store,
            {name: Issuer(one) for name, one in rules.authorities.items()},
            now=ra.now,
            random_fraction=lambda: 0.0,
        )
    )
    return ra


def _policies(
    profiles: Mapping[str, IProfilePolicy | ProfileSettings],
) -> dict[str, IProfilePolicy]:
    """Compile what is only settings."""
    policies: dict[str, IProfilePolicy] = {}
    for name, made in profiles.items():
        policy: Any = made
        if isinstance(made, ProfileSettings):
            policy = Profile(name, made)
        policies[name] = policy
    return policies


def _as_store(store: Any) -> IStore:
    """Tell the type checker what the class says itself."""
    found: IStore = store
    return found


def _as_credentials(credentials: Any) -> ICredentials:
    """Tell the type checker what the class says itself."""
    found: ICredentials = credentials
    return found


def _as_challenges(challenges: Any) -> IChallengeTokens:
    """Tell the type checker what the class says itself."""
    found: IChallengeTokens = challenges
    return found


def _as_revocation(revocation: Any) -> IRevocation:
    """Tell the type checker what the class says itself."""
    found: IRevocation = revocation
    return found


def _as_authority(authority: Any) -> IAuthority:
    """Tell the type checker what the class says itself."""
    found: IAuthority = authority
    return found


def _run_now(
    check: Callable[[str, str], bool], secret: str, verifier: str
) -> Awaitable[bool]:
    """Check a password here and now."""
    return succeed(check(secret, verifier))


@implementer(IRegistrationAuthority)
class StubAuthority:
    """
    A registration authority that answers what the test says.

    :ivar outcome: returned for each enrollment; an exception is raised.
    :ivar requests: what was asked, in order.
    :ivar refusals: the errors that were audited, in order.
    :ivar now: the wall clock.
    :ivar polls: the questions for what became of a request, in order.
    :ivar credentials: those of no authority, until the test puts others
        there; likewise ``revocation``.
    :ivar challenges: what the test puts there.
    """

    challenges: IChallengeTokens
    device_secrets: IDeviceSecrets
    revocation_challenges: IRevocationChallenges

    def __init__(
        self,
        outcome: Issued
        | Pending
        | Exception
        | Deferred[Issued | Pending]
        | None = None,
        chain: tuple[bytes, ...] = (),
        wishes: CSRWishes | None = None,
    ) -> None:
        self.outcome = outcome
        self.outbound = FakeOutbound()
        self.attempts = Attempts(Clock())
        maker: Any = KeyMaker(execute)
        self.key_maker = maker
        nothing = _as_store(MemoryStore())
        self.dialogues = nothing
        enquiries: Any = Enquiries(
            nothing, lambda: Rules({}, {}), lambda: EPOCH
        )
        self.enquiries = enquiries
        self.challenges = _as_challenges(
            ChallengeTokens(nothing, lambda: CHALLENGE_KEYS, Clock())
        )
        secrets: Any = DeviceSecrets(
            nothing, self.challenges, lambda: EPOCH, DeterministicBytes("stub")
        )
        self.device_secrets = secrets
        revoking: Any = RevocationChallenges(Clock(), execute, log2_n=1)
        self.revocation_challenges = revoking
        self.chain = chain
        self.wishes = wishes or CSRWishes()
        self.requests: list[EnrollmentRequest] = []
        self.polls: list[PollRequest] = []
        self.refusals: list[Exception] = []
        self.now: Callable[[], datetime] = lambda: EPOCH
        self.credentials = _as_credentials(FakeCredentials({}))
        self.revocation = _as_revocation(FakeRevocation({}))

    def enroll(self, request: EnrollmentRequest) -> Deferred[Issued | Pending]:
        """Answer with the outcome."""
        self.requests.append(request)
        if isinstance(self.outcome, Deferred):
            return self.outcome
        return self._answer(self.outcome)

    def elsewhere(
        self, function: Callable[..., Any], *args: object
    ) -> Awaitable[Any]:
        """Run it here and now."""
        return execute(function, *args)

    def shielded(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run it here and now."""
        return Deferred.fromCoroutine(work)

    def confirm(
        self, tenant_id: str, serial: str, former: str, actor: str
    ) -> Deferred[CertificateRecord]:
        """Answer with the outcome."""
        return self._answer(self.outcome)

    def release(
        self, tenant_id: str, serial: str, actor: str
    ) -> Deferred[CertificateRecord]:
        """Answer with the outcome."""
        return self._answer(self.outcome)

    def identify(
        self,
        endpoint: Endpoint,
        certificate: bytes,
        chain: tuple[bytes, ...] | None = None,
    ) -> Deferred[Principal]:
        """Answer with the outcome."""
        return self._answer(self.outcome)

    def sign_message(
        self, endpoint: Endpoint, content: bytes
    ) -> Deferred[bytes]:
        """Answer with the outcome."""
        return self._answer(self.outcome)

    def poll(self, request: PollRequest) -> Deferred[Issued | Pending]:
        """Answer with the outcome."""
        self.polls.append(request)
        return self._answer(self.outcome)

    def ca_certificates(self, endpoint: Endpoint) -> tuple[bytes, ...]:
        """Return the chain, or raise the outcome."""
        self._raise()
        return self.chain

    def succession(self, endpoint: Endpoint) -> Succession:
        """Return the chain as that of the only generation."""
        self._raise()
        return Succession(endpoint.authority, self.chain)

    def serving(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint."""
        return endpoint

    def is_lenient(self, endpoint: Endpoint) -> bool:
        """Forgive nothing."""
        return False

    def random_bytes(self, count: int) -> bytes:
        """Return octets that are as good as random to a test."""
        return bytes(range(count))

    def csr_attributes(self, endpoint: Endpoint) -> CSRWishes:
        """Return the wishes, or raise the outcome."""
        self._raise()
        return self.wishes

    def record_refusal(
        self,
        endpoint: Endpoint,
        operation: str,
        error: Exception,
        request_id: str,
        peer: str,
    ) -> Deferred[None]:
        """Remember the refusal."""
        self.refusals.append(error)
        return succeed(None)

    def find(self, tenant_id: str, serial: str) -> Deferred[CertificateRecord]:
        """Answer with the outcome."""
        return self._answer(self.outcome)

    def revoke(
        self, tenant_id: str, serial: str, reason: str, actor: str
    ) -> Deferred[CertificateRecord]:
        """Answer with the outcome."""
        return self._answer(self.outcome)

    def registrar(self, call: RegistrarCall) -> Deferred[IRegistrar]:
        """Answer with the outcome."""
        return self._answer(self.outcome)

    def _raise(self) -> None:
        """Raise the outcome if it is an error."""
        if isinstance(self.outcome, Exception):
            raise self.outcome

    @staticmethod
    def _answer(outcome: Any) -> Deferred[Any]:
        """Return a Deferred that has fired."""
        if isinstance(outcome, Exception):
            return fail(outcome)
        return succeed(outcome)
