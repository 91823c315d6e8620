# SPDX-License-Identifier: MIT
"""The gateway's own keys: trstctl.own_keys and trstctl.backends.credentials."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from trstctl.backends.credentials import LIMIT, KeyCredential, decrypt
from trstctl.backends.keyfiles import KeyFileError
from trstctl.errors import Unavailable, UnknownCertificate
from trstctl.interfaces import ICredentials, IMessageCredential
from trstctl.model import SYSTEM_TENANT, CertificateQuery, Purpose
from trstctl.own_keys import OwnCredentials
from trstctl.pkix import algorithms
from trstctl.pkix.certificate import read_certificate
from trstctl.policy.profile import Profile
from trstctl.policy.settings import gateway_profiles
from trstctl.testing import (
    FakeCredentials,
    FakeSigner,
    InlineThreads,
    MemoryStore,
    make_authority,
    make_ra,
    result_of,
)


class _Bench:
    """A gateway's credentials in a directory."""

    def __init__(self, directory: Path, **authorities: Any) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.signer = FakeSigner()
        self.authority = make_authority(signer=self.signer)
        self.directory = directory
        self.threads: Any = InlineThreads()
        store: Any = self.store
        self.ra = make_ra(
            store,
            clock=self.clock,
            authorities={"issuing": self.authority, **authorities},
            profiles={
                name: Profile(name, settings)
                for name, settings in gateway_profiles().items()
            },
        )
        self.keys = 0
        self.credentials = self.open()

    def open(self) -> OwnCredentials:
        """Return the credentials of another process on the directory."""
        return OwnCredentials(
            self.ra,
            self.directory,
            self._run,
            self._make,
            self.ra.random_bytes,
        )

    def _make(self, key: Any, chain: Any) -> Any:
        return KeyCredential(key, chain, self.threads, self.threads)

    def _run(self, function: Any, *args: Any) -> Any:
        self.keys += 1
        return succeed(function(*args))

    def get(self, purpose: Purpose = Purpose.OCSP) -> Any:
        """Return the newest credential."""
        return result_of(self.credentials.get("issuing", purpose))

    def advance(self, **span: float) -> None:
        """Let time pass."""
        self.clock.advance(timedelta(**span).total_seconds())

    def issued(self) -> int:
        """Return how many certificates the gateway has had issued."""
        query = CertificateQuery(SYSTEM_TENANT)
        return len(result_of(self.store.list_certificates(query)))


@pytest.fixture
def bench(tmp_path: Path) -> _Bench:
    """Return a gateway without any credential."""
    return _Bench(tmp_path)


class OwnCredentialsTests:
    """Made when first asked for, kept, and renewed in time."""

    def test_provides_the_interfaces(self, bench: _Bench) -> None:
        """Both stand where the interfaces say, and so does the fake."""
        assert verifyObject(ICredentials, bench.credentials)
        assert verifyObject(ICredentials, FakeCredentials({}))
        assert verifyObject(IMessageCredential, bench.get())

    def test_goes_the_way_of_every_other(self, bench: _Bench) -> None:
        """O-1: it is in the inventory, under its hidden profile."""
        credential = bench.get()
        query = CertificateQuery(SYSTEM_TENANT)
        (record,) = result_of(bench.store.list_certificates(query))
        assert "gateway-ocsp" == record.profile
        assert read_certificate(credential.certificate).serial == (
            record.serial
        )
        assert credential.chain[1:] == bench.authority.chain

    def test_ocsp_responder(self, bench: _Bench) -> None:
        """
        RFC 6960, section 4.2.2.2: issued by the CA itself, id-kp-OCSPSigning;
        section 4.2.2.2.1: nocheck, and then short-lived.
        """
        found = x509.load_der_x509_certificate(bench.get().certificate)
        found.extensions.get_extension_for_class(x509.OCSPNoCheck)
        usages = found.extensions.get_extension_for_class(
            x509.ExtendedKeyUsage
        ).value
        assert [ExtendedKeyUsageOID.OCSP_SIGNING] == list(usages)
        life = found.not_valid_after_utc - found.not_valid_before_utc
        assert life <= timedelta(days=15)
        issuer = x509.load_der_x509_certificate(bench.authority.certificate)
        found.verify_directly_issued_by(issuer)

    def test_scep_registration_authority(self, bench: _Bench) -> None:
        """RFC 8894, section 2.1.2: an RSA key that signs and decrypts."""
        credential = bench.get(Purpose.SCEP)
        found = x509.load_der_x509_certificate(credential.certificate)
        usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.digital_signature
        assert usage.key_encipherment
        key: Any = found.public_key()
        secret = b"s" * 16
        for scheme, pad in (
            ("rsaes-pkcs1-v1.5", padding.PKCS1v15()),
            (
                "rsaes-oaep-sha256",
                padding.OAEP(
                    padding.MGF1(hashes.SHA256()), hashes.SHA256(), None
                ),
            ),
        ):
            wrapped = key.encrypt(secret, pad)
            assert secret == result_of(credential.decrypt(wrapped, scheme))

    def test_same_until_it_is_due(self, bench: _Bench) -> None:
        """Nothing is made twice; another process finds the same file."""
        first = bench.get()
        assert bench.get() is first
        other = result_of(bench.open().get("issuing", Purpose.OCSP))
        assert first.certificate == other.certificate
        assert (1, 1) == (bench.keys, bench.issued())

    def test_requests_at_once_make_one_key(self, bench: _Bench) -> None:
        """Whoever comes while it is being made waits for that one."""
        bench.signer.paused = True
        waiting = [
            bench.credentials.get("issuing", Purpose.OCSP) for _ in range(3)
        ]
        bench.signer.release()
        found = [result_of(each) for each in waiting]
        assert [found[0]] * 3 == found
        assert 1 == bench.keys

    def test_renewed_with_a_third_left(self, bench: _Bench) -> None:
        """O-3, O-4: another key in time; the one before is still known."""
        first = bench.get()
        bench.advance(days=9)
        result_of_coroutine(bench.credentials.tend())
        assert first is bench.get()
        bench.advance(hours=12)
        result_of_coroutine(bench.credentials.tend())
        second = bench.get()
        assert first.certificate != second.certificate
        known = result_of(bench.credentials.known("issuing", Purpose.OCSP))
        assert [second.certificate, first.certificate] == [
            each.certificate for each in known
        ]
        bench.advance(days=5)
        known = result_of(bench.open().known("issuing", Purpose.OCSP))
        assert [second.certificate] == [each.certificate for each in known]

    def test_failing_renewal_serves_the_old_one(
        self, bench: _Bench, logged: Any
    ) -> None:
        """O-3: and is tried again after a pause, not at each request."""
        first = bench.get()
        bench.advance(days=10)
        bench.signer.error = Unavailable()
        assert first.certificate == bench.get().certificate
        assert first.certificate == bench.get().certificate
        assert 2 == bench.keys
        assert 1 == len(logged.flush(Unavailable))
        bench.signer.error = None
        bench.advance(minutes=11)
        assert first.certificate != bench.get().certificate

    def test_nothing_to_serve(self, bench: _Bench) -> None:
        """Without an old one the fault is told; so when that has ended."""
        bench.signer.error = Unavailable()
        with pytest.raises(Unavailable):
            bench.get()
        bench.signer.error = None
        bench.advance(seconds=10)
        bench.get()
        bench.signer.error = Unavailable()
        bench.advance(days=15)
        with pytest.raises(Unavailable):
            bench.get()

    def test_what_failed_rests(self, bench: _Bench) -> None:
        """O-6: strangers do not have one key after the other certified."""
        bench.signer.error = Unavailable()
        for _ in range(3):
            with pytest.raises(Unavailable):
                bench.get()
        assert 1 == bench.keys
        bench.signer.error = None
        rules: Any = bench.ra.rules.authorities
        rules["issuing"] = make_authority()
        bench.get()  # a reload may have mended it

    def test_nothing_is_issued_that_cannot_be_kept(
        self, bench: _Bench
    ) -> None:
        """O-6: a directory that others may change is found out first."""
        folder = bench.directory / "credentials"
        folder.mkdir()
        folder.chmod(0o777)
        with pytest.raises(KeyFileError):
            bench.get()
        assert 0 == bench.keys == bench.issued()

    def test_one_that_fails_does_not_hinder_the_others(
        self, tmp_path: Path, logged: Any
    ) -> None:
        """Each authority's is renewed in time."""
        other = FakeSigner()
        bench = _Bench(tmp_path, other=make_authority("other", signer=other))
        bench.get()
        result_of(bench.credentials.get("other", Purpose.OCSP))
        bench.advance(days=15)
        bench.signer.error = Unavailable()
        result_of_coroutine(bench.credentials.tend())
        assert 1 == len(logged.flush(Unavailable))
        assert 3 == bench.issued()

    def test_another_authority_is_another_certificate(
        self, bench: _Bench
    ) -> None:
        """After a reload with a new CA, the old one's certificate goes."""
        first = bench.get()
        rules: Any = bench.ra.rules.authorities
        rules["issuing"] = make_authority()
        second = bench.get()
        assert first.certificate != second.certificate
        assert second.chain[1:] == rules["issuing"].chain

    def test_replaced_file(self, bench: _Bench, tmp_path: Path) -> None:
        """O-2: what another process has made is taken over."""
        first = bench.get()
        path = tmp_path / "credentials" / "issuing-ocsp.pem"
        path.unlink()
        other = result_of(bench.open().get("issuing", Purpose.OCSP))
        assert first.certificate != other.certificate
        assert first is bench.get()
        bench.advance(seconds=1)
        assert other.certificate == bench.get().certificate

    def test_clock_that_steps_back(
        self, bench: _Bench, tmp_path: Path
    ) -> None:
        """O-2: a file is looked at again whatever the clock says."""
        bench.get()
        (tmp_path / "credentials" / "issuing-ocsp.pem").unlink()
        other = result_of(bench.open().get("issuing", Purpose.OCSP))
        bench.advance(seconds=-1)
        assert other.certificate == bench.get().certificate

    def test_broken_file(self, bench: _Bench, tmp_path: Path) -> None:
        """Half of a restore is replaced by a whole."""
        bench.get()
        bench.advance(seconds=1)
        path = tmp_path / "credentials" / "issuing-ocsp.pem"
        path.write_bytes(b"half")
        assert bench.get().chain
        assert 0o600 == path.stat().st_mode & 0o777

    def test_unknown_authority(self, bench: _Bench) -> None:
        """Nothing is made for an authority that there is not."""
        with pytest.raises(UnknownCertificate):
            result_of(bench.credentials.get("other", Purpose.OCSP))
        bench.get()
        rules: Any = bench.ra.rules.authorities
        del rules["issuing"]
        result_of_coroutine(bench.credentials.tend())
        with pytest.raises(UnknownCertificate):
            bench.get()


class KeyCredentialTests:
    """A private key with its certificate."""

    def test_signs(self, bench: _Bench) -> None:
        """With the algorithm that suits the key."""
        credential = bench.get()
        facts = read_certificate(credential.certificate)
        signature = result_of(
            credential.sign(b"content", credential.algorithm)
        )
        assert algorithms.verify(
            facts.public_key.spki,
            credential.algorithm,
            signature,
            b"content",
        )
        assert facts.not_after == credential.not_after

    def test_wrong_ciphertexts_are_none(self) -> None:
        """RFC 3218, section 2.3.2: no reason is told."""
        key = rsa.generate_private_key(65537, 2048)
        assert decrypt(key, b"short", "rsaes-pkcs1-v1.5") is None
        assert decrypt(key, bytes(256), "rsaes-oaep-sha256") is None
        assert decrypt(key, bytes(256), "rsaes-kem") is None
        assert decrypt(FakeSigner().key, bytes(256), "rsaes-pkcs1-v1.5") is (
            None
        )

    def test_bounded(self, bench: _Bench) -> None:
        """A flood waits for no thread; nor does a stopped pool take work."""
        credential = bench.get(Purpose.SCEP)
        credential._under_way = LIMIT
        with pytest.raises(Unavailable):
            result_of(credential.decrypt(bytes(256), "rsaes-pkcs1-v1.5"))
        credential._under_way = 0
        bench.threads.joined = True
        with pytest.raises(Unavailable):
            result_of(credential.decrypt(bytes(256), "rsaes-pkcs1-v1.5"))
        bench.threads.joined = False
        result_of(credential.decrypt(bytes(256), "rsaes-oaep-sha1"))
        assert 0 == credential._under_way


def result_of_coroutine(coroutine: Any) -> Any:
    """Return what a coroutine that does not wait has come to."""
    return result_of(Deferred.fromCoroutine(coroutine))
