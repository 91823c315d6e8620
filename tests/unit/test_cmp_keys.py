# SPDX-License-Identifier: MIT
"""
Keys that the gateway makes, and certificates that prove a key by being
encrypted to it: :mod:`trstctl.protocols.cmp.delivery`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from attrs import define, evolve
from cmp_client import (
    IMPLICIT,
    NULL,
    Reply,
    Signer,
    Site,
    asks,
    cert_conf,
    cert_req,
    cn,
    make_ra_site,
    make_site,
    new_key,
    poll_req,
    protected_by_secret,
    signed,
    spki,
)
from cmp_envelopes import (
    AES256_WRAP,
    encrypted_certificate,
    enveloped,
    new_private_key,
    private_key_message,
)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pkix_samples import rsa_key
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import globalLogPublisher

from trstctl.errors import Unavailable
from trstctl.model import (
    CertificateStatus,
    MintedSecret,
    Purpose,
    RequestState,
)
from trstctl.pkix import der
from trstctl.pkix.cmp import PKIBody
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.policy.profile import ProfileSettings
from trstctl.policy.settings import builtin_profiles
from trstctl.testing import (
    TENANT,
    Connection,
    make_ra,
    request_octets,
    result_of,
    settings_for,
)
from twisted.plugins.trstctl_cmp import cmp

DEVICE = builtin_profiles()["device"]
MAKING: dict[str, Any] = {"server_key_generation": True}
#: Certificates that keys can be encrypted to.
AGREEING = evolve(
    DEVICE, key_usage=("digitalSignature", "keyEncipherment", "keyAgreement")
)

RSA = der.sequence(der.oid("1.2.840.113549.1.1.1"), NULL)
P384 = der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.3.132.0.34"))
ED25519 = der.sequence(der.oid("1.3.101.112"))
ML_DSA_65 = der.sequence(der.oid("2.16.840.1.101.3.4.3.18"))

V3: dict[str, Any] = {"pvno": 3}
ENCIPHERMENT = b"\xa2\x03\x81\x01\x00"
AGREEMENT = b"\xa3\x03\x81\x01\x00"


def key_site(
    profile: ProfileSettings = AGREEING,
    profiles: dict[str, ProfileSettings] | None = None,
    **settings: Any,
) -> Site:
    """Return a gateway that makes keys."""
    profile = evolve(profile, **MAKING)
    return make_site(
        {"device": profile, **(profiles or {})},
        central_key_generation=True,
        **settings,
    )


def wishes(
    kind: str = "ir",
    name: str = "device",
    algorithm: bytes | None = None,
    proof: bytes = b"",
) -> PKIBody:
    """Return a request for a certificate and its key."""
    template = CertTemplate(subject=cn(name), key_algorithm=algorithm)
    return PKIBody(kind, der.sequence(cert_req(template, None, proof=proof)))


def going_on(reply: Reply, **changes: Any) -> dict[str, Any]:
    """Return what the header of the next message says."""
    return {
        "transaction_id": reply.header.transaction_id,
        "recip_nonce": reply.header.sender_nonce,
        **V3,
        **changes,
    }


def same_key(private: Any, certificate: bytes) -> bool:
    """Tell whether a certificate is of a key."""
    found = x509.load_der_x509_certificate(certificate).public_key()
    return bool(found == private.public_key())


def certified(site: Site, key: Any, name: str = "device") -> Signer:
    """Return a certificate for a key, got by ir."""
    proof = b"\xa2\x03\x81\x01\x00"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        body = asks("ir", name, key)
    else:
        template = CertTemplate(subject=cn(name), public_key=spki(key))
        body = PKIBody(
            "ir", der.sequence(cert_req(template, key, proof=proof))
        )
    secret = site.secret()
    reply = site.send(protected_by_secret(secret, body, **V3))
    certificate = (
        reply.certificate
        if isinstance(key, ec.EllipticCurvePrivateKey)
        else encrypted_certificate(reply, key)
    )
    done = site.send(
        protected_by_secret(secret, cert_conf(certificate), **going_on(reply))
    )
    assert "pkiconf" == done.type
    return Signer(certificate, key)


def contents(value: Any) -> Iterator[bytes]:
    """Yield all octets that an object holds on to, at any depth."""
    seen: dict[int, Any] = {}
    left = [value]
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        if isinstance(each, str):
            yield each.encode()
        elif isinstance(each, bytes):
            yield each
        elif isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, (list, tuple, set, frozenset)):
            left += each
        else:
            left += vars(each).values() if hasattr(each, "__dict__") else ()
            slots = getattr(type(each), "__slots__", ())
            left += [getattr(each, name, None) for name in slots]


@define
class CountingMaker:
    """Counts the keys that are made."""

    makes: Any
    made: int = 0

    def make(self, algorithm: str, bits: int = 0, tenant_id: str = "") -> Any:
        """Make a key."""
        self.made += 1
        return self.makes.make(algorithm, bits, tenant_id)


class GenerationTests:
    """Central key generation (RFC 9483, section 4.1.6)."""

    def test_a_secret_brings_a_key(self) -> None:
        """Section 4.1.6.3: encrypted under the shared secret."""
        site = key_site()
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, wishes(), **V3))
        assert ("ip", "accepted", 3) == (
            reply.type,
            reply.pki_status,
            reply.header.pvno,
        )
        key = new_private_key(reply, secret.secret)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert same_key(key, reply.certificate)
        done = site.send(
            protected_by_secret(
                secret, cert_conf(reply.certificate), **going_on(reply)
            )
        )
        assert "pkiconf" == done.type
        assert site.record(reply.certificate).confirm_by is None

    def test_by_the_letter_it_is_wrapped_with_aes(self) -> None:
        """RFC 9481, section 4.3.1, in strict mode; else RFC 3211."""
        for mode, wrap in (
            ("strict", AES256_WRAP),
            ("interop", "1.2.840.113549.1.9.16.3.9"),
        ):
            site = key_site(mode=mode)
            secret = site.secret()
            reply = site.send(protected_by_secret(secret, wishes(), **V3))
            message = private_key_message(reply)
            (info,) = enveloped(message)["recipientInfos"]
            used = info["pwri"]["keyEncryptionAlgorithm"]["algorithm"]
            assert wrap == str(used)
            key = new_private_key(reply, secret.secret)
            assert same_key(key, reply.certificate)

    @pytest.mark.parametrize("kind", ["cr", "kur"])
    @pytest.mark.parametrize("is_rsa", [True, False])
    def test_a_certificate_brings_a_key(self, kind: str, is_rsa: bool) -> None:
        """Sections 4.1.6.1 and 4.1.6.2: key transport and key agreement."""
        site = key_site()
        device = certified(site, rsa_key() if is_rsa else new_key())
        reply = site.send(signed(device, wishes(kind), **V3))
        (info,) = enveloped(private_key_message(reply))["recipientInfos"]
        assert ("ktri" if is_rsa else "kari") == info.getName()
        key = new_private_key(reply, device.key)
        assert same_key(key, reply.certificate)
        before = site.record(device.certificate).status
        assert CertificateStatus.VALID is before
        site.send(
            signed(device, cert_conf(reply.certificate), **going_on(reply))
        )
        superseded = site.record(device.certificate).superseded_by
        assert ("kur" == kind) == bool(superseded)

    @pytest.mark.parametrize(
        ("algorithm", "name"),
        [
            (None, "secp256r1"),
            (P384, "secp384r1"),
            (RSA, "2048"),
            (ED25519, "Ed25519"),
        ],
    )
    def test_of_the_kind_that_is_wished_for(
        self, algorithm: bytes | None, name: str
    ) -> None:
        """An algorithm with an empty key says which."""
        site = key_site()
        secret = site.secret()
        reply = site.send(
            protected_by_secret(secret, wishes(algorithm=algorithm), **V3)
        )
        key = new_private_key(reply, secret.secret)
        curve = getattr(key, "curve", None)
        found = curve.name if curve else getattr(key, "key_size", "Ed25519")
        assert name == str(found)
        assert same_key(key, reply.certificate)

    def test_it_is_always_confirmed(self) -> None:
        """E-2: implicit confirmation is granted to nobody."""
        site = key_site()
        reply = site.send(
            protected_by_secret(site.secret(), wishes(), **V3, **IMPLICIT)
        )
        assert not reply.header.general_info.implicit_confirm
        assert site.record(reply.certificate).confirm_by is not None
        site.clock.advance(301)
        result_of(Deferred.fromCoroutine(site.ra.tend()))
        status = site.record(reply.certificate).status
        assert CertificateStatus.REVOKED is status

    def test_the_same_octets_get_the_same_octets(self) -> None:
        """M-4: the key is made once."""
        site = key_site()
        maker: Any = CountingMaker(site.ra.key_maker)
        site.ra.key_maker = maker
        message = protected_by_secret(site.secret(), wishes(), **V3)
        assert site.send(message) == site.send(message)
        assert 1 == maker.made
        assert 1 == len(site.store.tables.certificates)

    def test_a_restart_before_it_is_confirmed(self) -> None:
        """M-5: another process knows the answer, and the transaction."""
        site = key_site()
        secret = site.secret()
        message = protected_by_secret(secret, wishes(), **V3)
        reply = site.send(message)
        other = make_ra(
            site.store,
            clock=site.clock,
            authorities=site.ra.rules.authorities,
            profiles=site.profiles,
            owner="other",
        )
        settings = settings_for(cmp, central_key_generation=True)
        again = Site(
            site.store,
            site.clock,
            other,
            cmp.make_resource(other, settings),
            site.profiles,
        )
        assert reply.octets == again.send(message).octets
        done = again.send(
            protected_by_secret(
                secret, cert_conf(reply.certificate), **going_on(reply)
            )
        )
        assert "pkiconf" == done.type
        assert site.record(reply.certificate).confirm_by is None

    def test_nobody_keeps_it(self) -> None:
        """D-3: neither store nor log; the encrypted one until it is there."""
        site, events = key_site(), list[Any]()
        secret = site.secret()
        globalLogPublisher.addObserver(events.append)
        try:
            reply = site.send(protected_by_secret(secret, wishes(), **V3))
        finally:
            globalLogPublisher.removeObserver(events.append)
        key = new_private_key(reply, secret.secret)
        number = key.private_numbers().private_value.to_bytes(32, "big")
        message = private_key_message(reply)
        encrypted = message[-64:]
        kept = list(contents(site.store))
        assert any(encrypted in each for each in kept)
        for form in (number, number.hex().encode()):
            assert not any(form in each for each in kept)
            assert not any(form in each for each in contents(events))
        site.send(
            protected_by_secret(
                secret, cert_conf(reply.certificate), **going_on(reply)
            )
        )
        assert not any(encrypted in each for each in contents(site.store))

    def test_what_is_not_confirmed_is_forgotten(self) -> None:
        """D-3: the encrypted key does not outlive its certificate."""
        site = key_site()
        reply = site.send(protected_by_secret(site.secret(), wishes(), **V3))
        encrypted = private_key_message(reply)[-64:]
        site.clock.advance(601)
        result_of(Deferred.fromCoroutine(site.ra.tend()))
        assert not any(encrypted in each for each in contents(site.store))


class RefusedGenerationTests:
    """Whoever gets no key is told why, and nothing was made."""

    def refused(
        self, site: Site, body: PKIBody, failure: str, code: str, **how: Any
    ) -> None:
        """Assert that a request is refused, before any key was made."""
        maker: Any = CountingMaker(site.ra.key_maker)
        site.ra.key_maker = maker
        issued = len(site.store.tables.certificates)
        by = how.pop("by", None)
        options = {**V3, **how}
        message = (
            signed(by, body, **options)
            if by
            else protected_by_secret(site.secret(), body, **options)
        )
        reply = site.send(message)
        assert (failure, code) == (reply.failure, reply.code)
        assert (0, issued) == (maker.made, len(site.store.tables.certificates))

    def test_it_is_off(self) -> None:
        """Unless the operator turns it on."""
        self.refused(make_site(), wishes(), "badCertTemplate", "no-key")

    @pytest.mark.parametrize("kind", ["ir", "cr"])
    def test_a_proof_without_a_key(self, kind: str) -> None:
        """RFC 9483, section 4.1.6: popo must be absent."""
        for proof in (ENCIPHERMENT, b"\x80\x00"):
            body = wishes(kind, proof=proof)
            self.refused(key_site(), body, "badPOP", "pop-without-key")

    def test_version_2_cannot_carry_it(self) -> None:
        """RFC 9810, section 7: EnvelopedData needs cmp2021."""
        failure = ("unsupportedVersion", "key-needs-version-3")
        self.refused(key_site(), wishes(), *failure, pvno=2)

    @pytest.mark.parametrize("usages", [("digitalSignature",)])
    @pytest.mark.parametrize("is_rsa", [True, False])
    def test_a_signer_who_cannot_decrypt(
        self, usages: tuple[str, ...], is_rsa: bool
    ) -> None:
        """By the key usage of its certificate."""
        site = key_site(evolve(DEVICE, key_usage=usages))
        key = rsa_key() if is_rsa else new_key()
        device = self.signed_for(site, key)
        failure = ("notAuthorized", "signer-cannot-decrypt")
        self.refused(site, wishes("cr"), *failure, by=device)

    @staticmethod
    def signed_for(site: Site, key: Any) -> Signer:
        """Return a certificate, got by p10cr."""
        from trstctl.testing import make_csr

        reply = site.send(
            protected_by_secret(
                site.secret(),
                PKIBody("p10cr", make_csr("device", key=key)),
                **IMPLICIT,
            )
        )
        return Signer(reply.certificate, key)

    def test_a_registration_authority(self) -> None:
        """It would hold the key of somebody else."""
        site, ra = make_ra_site(central_key_generation=True)
        failure = ("notAuthorized", "key-for-another")
        self.refused(site, wishes("cr", "branch-1"), *failure, by=ra)

    def test_a_profile_that_makes_none(self) -> None:
        """The endpoint alone does not decide."""
        site = make_site({"device": AGREEING}, central_key_generation=True)
        self.refused(site, wishes(), "badCertTemplate", "policy-violation")

    def test_a_kind_that_the_profile_does_not_list(self) -> None:
        """Judged before the key is made."""
        site = key_site(evolve(AGREEING, key_types=("p-256",)))
        body = wishes(algorithm=RSA)
        self.refused(site, body, "badCertTemplate", "policy-violation")

    def test_a_kind_that_cannot_be_made(self) -> None:
        """The profile may list it all the same."""
        body = wishes(algorithm=ML_DSA_65)
        self.refused(key_site(), body, "badAlg", "unsupported-algorithm")

    def test_a_secret_that_is_used_up(self) -> None:
        """It buys one certificate, whatever it asks for."""
        site = key_site()
        secret = site.secret()
        site.send(protected_by_secret(secret, wishes(), **V3))
        maker: Any = CountingMaker(site.ra.key_maker)
        site.ra.key_maker = maker
        body = wishes(name="another")
        reply = site.send(protected_by_secret(secret, body, **V3))
        assert ("notAuthorized", "secret-used-up") == (
            reply.failure,
            reply.code,
        )
        assert 0 == maker.made
        assert 1 == len(site.store.tables.certificates)

    def test_kur_under_a_secret(self) -> None:
        """RFC 9483, section 4.1.3."""
        failure = ("wrongIntegrity", "must-be-signed")
        self.refused(key_site(), wishes("kur"), *failure)

    def test_nobody_can_vouch_for_it(self) -> None:
        """Without a cmKGA credential no key is made."""
        site = key_site()
        site.secret()
        known = site.ra.credentials.get

        def get(authority: str, purpose: Purpose) -> Any:
            if purpose is Purpose.KGA:
                return fail(Unavailable())
            return known(authority, purpose)

        credentials: Any = type("Some", (), {"get": staticmethod(get)})()
        site.ra.credentials = credentials
        self.refused(site, wishes(), "systemUnavail", "unavailable")


class LateMaker:
    """Makes keys when the test says so."""

    def __init__(self, maker: Any) -> None:
        self.makes = maker
        self.go: Deferred[None] = Deferred()

    def make(self, algorithm: str, bits: int = 0, tenant_id: str = "") -> Any:
        """Make a key, later."""
        return self.go.addCallback(
            lambda _: self.makes.make(algorithm, bits, tenant_id)
        )


class InterruptedGenerationTests:
    """What becomes of a key that does not arrive."""

    def test_the_client_leaves_before_it_is_made(self) -> None:
        """The answer is kept: who sends the same octets gets its key."""
        site = key_site()
        maker: Any = LateMaker(site.ra.key_maker)
        site.ra.key_maker = maker
        secret = site.secret()
        message = protected_by_secret(secret, wishes(), **V3)
        connection = Connection(site.resource, clock=site.clock)
        media = {"Content-Type": "application/pkixcmp"}
        connection.send(request_octets("POST", "/cmp", message, media))
        connection.lose()
        maker.go.callback(None)
        (record,) = site.store.tables.certificates.values()
        assert CertificateStatus.VALID is record.status
        reply = site.send(message)
        key = new_private_key(reply, secret.secret)
        assert same_key(key, reply.certificate)
        assert 1 == len(site.store.tables.certificates)

    def test_it_cannot_be_signed(self) -> None:
        """The certificate is revoked: nobody has its key."""
        site = key_site()
        credential = result_of(site.ra.credentials.get("issuing", Purpose.KGA))

        def sign(content: bytes, algorithm: str) -> Any:
            return fail(Unavailable())

        credential.sign = sign
        reply = site.send(protected_by_secret(site.secret(), wishes(), **V3))
        assert "systemUnavail" == reply.failure
        (record,) = site.store.tables.certificates.values()
        assert CertificateStatus.REVOKED is record.status

    @pytest.mark.parametrize("wait", [0, 61])
    def test_the_process_ended_before_the_answer(self, wait: int) -> None:
        """Nobody has the key; no second certificate under this secret."""
        site = key_site()
        open_dialogue = site.store.open_dialogue
        site.store.open_dialogue = lambda *_: fail(Unavailable())
        message = protected_by_secret(site.secret(), wishes(), **V3)
        assert "systemUnavail" == site.send(message).failure
        site.store.open_dialogue = open_dialogue
        site.clock.advance(wait)
        reply = site.send(message)
        assert (
            ("notAuthorized", "key-not-kept")
            if wait
            else ("systemUnavail", "unavailable")
        ) == (reply.failure, reply.code)
        assert 1 == len(site.store.tables.certificates)


class HeldGenerationTests:
    """Requests that wait for a person."""

    def test_the_key_is_made_once_it_is_approved(self) -> None:
        """And goes to whoever asks for it then."""
        site = key_site(evolve(AGREEING, approval="always"))
        maker: Any = CountingMaker(site.ra.key_maker)
        site.ra.key_maker = maker
        secret = site.secret()
        waiting = site.send(
            protected_by_secret(secret, wishes(algorithm=RSA), **V3)
        )
        assert ("waiting", 0) == (waiting.pki_status, maker.made)
        later = site.send(
            protected_by_secret(secret, poll_req(), **going_on(waiting))
        )
        assert ("pollRep", 0) == (later.type, maker.made)
        approve(site)
        message = protected_by_secret(secret, poll_req(), **going_on(later))
        done = site.send(message)
        assert "accepted" == done.pki_status
        assert done == site.send(message)
        key = new_private_key(done, secret.secret)
        assert 2048 == key.key_size
        assert same_key(key, done.certificate)
        assert 1 == maker.made

    @pytest.mark.parametrize("made", [True, False])
    def test_a_question_of_version_2(self, made: bool) -> None:
        """RFC 9810, section 7: its answer has no EnvelopedData; the request
        waits on."""
        site = key_site(evolve(AGREEING, approval="always"))
        secret, key = site.secret(), rsa_key()
        body = wishes(algorithm=RSA) if made else decrypts(key)
        waiting = site.send(protected_by_secret(secret, body, **V3))
        approve(site)
        asked = going_on(waiting)
        refused = site.send(
            protected_by_secret(secret, poll_req(), **asked | {"pvno": 2})
        )
        assert ("unsupportedVersion", "answer-needs-version-3") == (
            refused.failure,
            refused.code,
        )
        done = site.send(protected_by_secret(secret, poll_req(), **asked))
        assert "accepted" == done.pki_status

    def test_whoever_else_asks_for_the_same(self) -> None:
        """There is no key yet that tells them apart, but who they are is
        known: nobody gets what another's request was approved for."""
        site = key_site(evolve(AGREEING, approval="always"))
        one, other = site.secret(), site.secret()
        body, same = (
            wishes(algorithm=RSA),
            {"transaction_id": bytes(range(16))},
        )
        waiting = site.send(protected_by_secret(one, body, **V3, **same))
        found = site.ra.dialogues

        class Racing:
            """Knows nothing of what the other has just begun."""

            open_dialogue = found.open_dialogue
            count_dialogues = found.count_dialogues
            calls = 0

            def find_dialogue(self, *args: Any) -> Any:
                self.calls += 1
                return (
                    succeed(None)
                    if self.calls == 1
                    else found.find_dialogue(*args)
                )

        site.ra.dialogues = Racing()
        refused = site.send(protected_by_secret(other, body, **V3, **same))
        assert "transactionIdInUse" == refused.failure
        site.ra.dialogues = found
        for held in result_of(
            site.store.list_requests(TENANT, RequestState.HELD, 9)
        ):
            if held.secret_id == other.record.id:
                now = site.ra.now()
                result_of(
                    site.store.decide_request(
                        TENANT,
                        held.id,
                        True,
                        "me",
                        "",
                        now,
                        now.replace(year=2030),
                    )
                )
        asked = going_on(waiting)
        later = site.send(protected_by_secret(one, poll_req(), **asked))
        assert "pollRep" == later.type
        assert not site.store.tables.certificates

    def test_a_reg_token_pays_for_it(self) -> None:
        """Although what is kept of the request does not have it any more."""
        site = key_site(
            labels={"held": {"profile": "held", "reg_token": "challenge"}},
            profiles={
                "held": evolve(AGREEING, approval="always", **MAKING),
            },
        )
        device = certified(site, new_key())
        token = site.secret(profile="held")
        control = der.sequence(
            der.oid("1.3.6.1.5.5.7.5.1.1"),
            der.tlv(0x0C, token.secret.encode()),
        )
        template = CertTemplate(subject=cn("device"))
        request = cert_req(
            template, None, controls=der.sequence(control), proof=b""
        )
        body, path = PKIBody("cr", der.sequence(request)), "/cmp/p/held"
        waiting = site.send(signed(device, body, **V3), path)
        assert "waiting" == waiting.pki_status
        approve(site)
        done = site.send(signed(device, poll_req(), **going_on(waiting)), path)
        key = new_private_key(done, device.key)
        assert same_key(key, done.certificate)

    def test_a_certificate_is_encrypted_when_it_is_approved(self) -> None:
        """Likewise."""
        site = make_site({"device": evolve(AGREEING, approval="always")})
        secret, key = site.secret(), rsa_key()
        waiting = site.send(
            protected_by_secret(secret, decrypts(key), **V3, **IMPLICIT)
        )
        approve(site)
        done = site.send(
            protected_by_secret(secret, poll_req(), **going_on(waiting))
        )
        assert same_key(key, encrypted_certificate(done, key))


def approve(site: Site) -> None:
    """Approve the one held request."""
    (held,) = result_of(site.store.list_requests(TENANT, RequestState.HELD, 9))
    now = site.ra.now()
    result_of(
        site.store.decide_request(
            TENANT, held.id, True, "me", "", now, now + timedelta(days=1)
        )
    )


def decrypts(
    key: Any, kind: str = "ir", proof: bytes | None = None
) -> PKIBody:
    """Return a request whose proof is to decrypt the certificate."""
    template = CertTemplate(subject=cn("device"), public_key=spki(key))
    if proof is None:
        is_ec = isinstance(key, ec.EllipticCurvePrivateKey)
        proof = AGREEMENT if is_ec else ENCIPHERMENT
    return PKIBody(kind, der.sequence(cert_req(template, None, proof=proof)))


class EncryptedCertificateTests:
    """The indirect method (RFC 9810, section 5.2.8.3.2)."""

    @pytest.fixture
    def site(self) -> Site:
        """A gateway whose certificates are for encryption, too."""
        return make_site({"device": AGREEING})

    def sent(self, site: Site, key: Any) -> tuple[MintedSecret, Reply, bytes]:
        """Return who got a certificate, the answer, and the certificate."""
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, decrypts(key), **V3))
        assert ("ip", "accepted") == (reply.type, reply.pki_status)
        return secret, reply, encrypted_certificate(reply, key)

    @pytest.mark.parametrize(
        "key",
        [
            rsa_key(),
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP521R1()),
        ],
    )
    def test_who_decrypts_it_confirms_it(self, site: Site, key: Any) -> None:
        """certHash is the proof of possession."""
        secret, reply, certificate = self.sent(site, key)
        assert same_key(key, certificate)
        assert certificate not in reply.octets
        assert site.record(certificate).confirm_by is not None
        done = site.send(
            protected_by_secret(
                secret, cert_conf(certificate), **going_on(reply)
            )
        )
        assert "pkiconf" == done.type
        assert site.record(certificate).confirm_by is None

    def test_who_does_not_decrypt_it_gets_nothing(self, site: Site) -> None:
        """Another hash proves nothing, and time revokes."""
        secret, reply, certificate = self.sent(site, rsa_key())
        wrong = site.send(
            protected_by_secret(
                secret, cert_conf(b"", digest=bytes(32)), **going_on(reply)
            )
        )
        assert "badCertId" == wrong.failure
        assert site.record(certificate).confirm_by is not None
        site.clock.advance(301)
        result_of(Deferred.fromCoroutine(site.ra.tend()))
        status = site.record(certificate).status
        assert CertificateStatus.REVOKED is status

    def test_it_is_never_confirmed_implicitly(self, site: Site) -> None:
        """E-2."""
        key = rsa_key()
        reply = site.send(
            protected_by_secret(site.secret(), decrypts(key), **V3, **IMPLICIT)
        )
        assert not reply.header.general_info.implicit_confirm
        certificate = encrypted_certificate(reply, key)
        assert site.record(certificate).confirm_by is not None

    def test_an_update_replaces_once_it_is_proven(self, site: Site) -> None:
        """I-14."""
        device = site.enrolled()
        key = rsa_key()
        reply = site.send(signed(device, decrypts(key, "kur"), **V3))
        certificate = encrypted_certificate(reply, key)
        assert not site.record(device.certificate).superseded_by
        site.send(signed(device, cert_conf(certificate), **going_on(reply)))
        assert site.record(device.certificate).superseded_by

    def test_the_same_octets_get_the_same_octets(self, site: Site) -> None:
        """M-4."""
        message = protected_by_secret(site.secret(), decrypts(rsa_key()), **V3)
        assert site.send(message) == site.send(message)

    def test_the_same_request_is_encrypted_again(self, site: Site) -> None:
        """I-10: in another transaction, the same certificate."""
        key = rsa_key()
        secret, _, certificate = self.sent(site, key)
        reply = site.send(protected_by_secret(secret, decrypts(key), **V3))
        assert certificate == encrypted_certificate(reply, key)

    @pytest.mark.parametrize(
        ("key", "proof"),
        [
            (rsa_key(), AGREEMENT),
            (new_key(), ENCIPHERMENT),
            (ed25519.Ed25519PrivateKey.generate(), ENCIPHERMENT),
            (ed25519.Ed25519PrivateKey.generate(), AGREEMENT),
        ],
    )
    def test_a_key_that_does_not_decrypt(
        self, site: Site, key: Any, proof: bytes
    ) -> None:
        """Or not in this way."""
        self.refused(site, key, proof, "badPOP", "pop-not-of-this-key")

    @pytest.mark.parametrize(
        "proof",
        [
            b"\xa2\x03\x81\x01\x01",
            b"\xa3\x03\x81\x01\x01",
            b"\xa2\x04\x80\x02\x00\x05",
            b"\xa3\x04\x82\x02\x00\x05",
            b"\xa3\x02\xa3\x00",
            b"\xa2\x02\xa4\x00",
        ],
    )
    def test_another_method(self, site: Site, proof: bytes) -> None:
        """RFC 9810, section 5.2.8.4: badPOP; the client may try another."""
        self.refused(site, rsa_key(), proof, "badPOP", "pop-unsupported")

    def test_version_2_cannot_carry_it(self, site: Site) -> None:
        """EncryptedValue is deprecated; badPOP, as openssl -popo 2 gets."""
        code = "pop-needs-version-3"
        self.refused(site, rsa_key(), ENCIPHERMENT, "badPOP", code, pvno=2)

    def test_a_profile_without_encryption(self) -> None:
        """RFC 9810, section 5.2.2: by the key usage that is issued."""
        site = make_site({"device": DEVICE})
        self.refused(
            site, new_key(), AGREEMENT, "badCertTemplate", "policy-violation"
        )

    def test_a_weak_key(self, site: Site) -> None:
        """It is the key that will not do."""
        self.refused(
            site,
            rsa.generate_private_key(65537, 1024),
            ENCIPHERMENT,
            "badCertTemplate",
            "key",
        )

    def refused(
        self,
        site: Site,
        key: Any,
        proof: bytes,
        failure: str,
        code: str,
        **how: Any,
    ) -> None:
        """Assert that nothing is issued."""
        message = protected_by_secret(
            site.secret(), decrypts(key, proof=proof), **{**V3, **how}
        )
        reply = site.send(message)
        assert (failure, code) == (reply.failure, reply.code)
        assert not site.store.tables.certificates
