# SPDX-License-Identifier: MIT
"""What each protocol does while an authority gets another key."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cmp_client import (
    IMPLICIT,
    Reply,
    Signer,
    Site,
    asks,
    cert_conf,
    cn,
    make_site,
    new_key,
    protected_by_secret,
    rev_req,
    signed,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from rollover_samples import Lineage, lineage
from scep_bench import BAD_CERT_ID, BAD_CHECK, PATH, SUCCESS, Bench
from scep_samples import (
    certificates_and_crls,
    csr,
    issuer_and_serial,
    rsa_key,
    subject_of,
)
from test_cmp_general import genm, told
from test_cmp_resource import going_on
from twisted.internet.defer import Deferred

from trstctl.errors import UnknownCertificate
from trstctl.interfaces import IEnrollmentProtocol
from trstctl.model import Phase, Purpose
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cms import read_certs_only
from trstctl.pkix.crmf_template import CertTemplate, directory_name
from trstctl.testing import exchange, make_ra, result_of, settings_for
from twisted.plugins.trstctl_est import est

PLUGIN: IEnrollmentProtocol = est


def serial_of(certificate: bytes) -> int:
    """Return the serial number."""
    return x509.load_der_x509_certificate(certificate).serial_number


def issued_by(one: Any, certificate: bytes) -> bool:
    """Tell whether an authority's key has signed a certificate."""
    return bool(one.issued(read_certificate(certificate)))


def leads(
    certificates: Sequence[bytes], first: bytes, anchors: Sequence[bytes]
) -> bool:
    """Tell whether certificates lead from the first one to an anchor."""
    reached = {first}
    while True:
        above = {
            one
            for one in {*certificates, *anchors} - reached
            if any(_is_above(one, each) for each in reached)
        }
        if above & set(anchors):
            return True
        if not above:
            return False
        reached |= above


def _is_above(issuer: bytes, certificate: bytes) -> bool:
    """Tell whether a certificate is signed by another's key."""
    try:
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(
            x509.load_der_x509_certificate(issuer)
        )
    except Exception:  # noqa: BLE001 - of whatever kind
        return False
    return True


class ESTTests:
    """``/cacerts``."""

    def test_cacerts(self) -> None:
        """As the succession has them; encoded once in each phase."""
        line = lineage()
        ra: Any = make_ra(authorities=line.authorities)
        resource = PLUGIN.make_resource(ra, settings_for(PLUGIN))
        for phase in (Phase.PREPARED, Phase.ACTIVE, Phase.FINISHED):
            line.put(ra, phase)
            for _ in range(2):
                answer = exchange(resource, "GET", "/.well-known/est/cacerts")
                found = read_certs_only(base64.b64decode(answer.body))
                assert line.succession(phase).certificates == found

    def test_crls(self) -> None:
        """RFC 8295, section 4: those of both keys, while both count."""
        line = lineage()
        ra: Any = make_ra(authorities=line.authorities)
        publisher: Any = ra.revocation
        crls = {
            name: result_of(publisher.crl(name, "")).der
            for name in line.authorities
        }
        resource = PLUGIN.make_resource(ra, settings_for(PLUGIN, crls=True))
        for phase, names in (
            (Phase.PREPARED, ["issuing", "issuing-2"]),
            (Phase.ACTIVE, ["issuing-2", "issuing"]),
            (Phase.FINISHED, ["issuing-2"]),
        ):
            line.put(ra, phase)
            answer = exchange(resource, "GET", "/.well-known/est/crls")
            body = base64.b64decode(answer.body)
            _, found = certificates_and_crls(body)
            assert [crls[name] for name in names] == found


# --- SCEP -------------------------------------------------------------------


class SCEPTests:
    """Messages to either RA certificate, and GetNextCACert."""

    @pytest.fixture
    def line(self) -> Lineage:
        """An authority with two keys."""
        return lineage()

    @pytest.fixture
    def bench(self, line: Lineage) -> Bench:
        """A gateway."""
        return Bench(authorities=line.authorities)

    def renewal(self, bench: Bench, old: bytes, **changes: Any) -> Any:
        """Return a renewal that the old certificate signs."""
        return bench.message(
            **{
                "content": csr(rsa_key(1), challenge=None),
                "certificate": old,
                "message_type": "17",
                "transaction": "renewal",
                **changes,
            }
        )

    def enroll(self, bench: Bench, number: int = 1) -> bytes:
        """Enroll, with a challenge and a transaction of its own."""
        # The number makes the challenge another.
        names = (f"dns:*.{number}.example", "cn:*", "dns:*")
        challenge = bench.challenge(names=names)
        return bench.enrolled(
            bench.message(
                content=csr(challenge=challenge), transaction=str(number)
            )
        )

    def test_next_follows_by_itself(self, line: Lineage, bench: Bench) -> None:
        """RFC 8894, section 4.7.1: told while it is prepared."""

        def caps() -> bool:
            answer = bench.http("GET", f"{PATH}?operation=GetCACaps")
            return b"GetNextCACert\n" in answer.body

        url = f"{PATH}?operation=GetNextCACert"
        assert (False, 400) == (caps(), bench.http("GET", url).status)
        line.put(bench.ra, Phase.PREPARED)
        assert caps()
        answer = bench.http("GET", url)
        assert "application/x-x509-next-ca-cert" == answer.content_type
        chain = bench.credential("issuing-2").chain
        assert all(one in answer.body for one in chain)
        for phase in (Phase.ACTIVE, Phase.FINISHED):
            line.put(bench.ra, phase)
            assert (False, 400) == (caps(), bench.http("GET", url).status)

    def test_next_that_is_configured(self, line: Lineage) -> None:
        """It goes before."""
        bench = Bench(authorities=line.authorities, next_authority="issuing-2")
        answer = bench.http("GET", f"{PATH}?operation=GetNextCACert")
        assert 200 == answer.status

    def test_ca_certificates(self, line: Lineage, bench: Bench) -> None:
        """
        RFC 8894, section 4.2.1: of the key that issues, and no link, which
        certmonger would take for the root.
        """
        line.put(bench.ra, Phase.PREPARED)
        old = bench.credential("issuing")
        assert list(old.chain) == bench.certificates()
        new = bench.credential("issuing-2")
        for phase in (Phase.ACTIVE, Phase.FINISHED):
            line.put(bench.ra, phase)
            assert list(new.chain) == bench.certificates()

    @pytest.mark.parametrize("phase", [Phase.PREPARED, Phase.ACTIVE])
    @pytest.mark.parametrize("recipient", ["issuing", "issuing-2"])
    def test_messages_to_either(
        self, line: Lineage, bench: Bench, phase: Phase, recipient: str
    ) -> None:
        """Whoever is asked answers; the key that issues has signed."""
        line.put(bench.ra, phase)
        addressed = bench.credential(recipient).certificate
        message = bench.message(
            content=csr(challenge=bench.challenge()), recipient=addressed
        )
        reply = bench.ask(message)
        assert SUCCESS == reply.status
        assert [addressed] == reply.certificates
        (certificate,), _ = reply.opened(rsa_key())
        issuing = line.succession(phase).authority
        assert issued_by(line.authorities[issuing], certificate)

    def test_messages_to_the_old_one_at_last(
        self, line: Lineage, bench: Bench
    ) -> None:
        """Once it is finished, its key decrypts nothing."""
        line.put(bench.ra, Phase.FINISHED)
        message = bench.message(
            content=csr(challenge=bench.challenge()),
            recipient=bench.credential("issuing").certificate,
        )
        assert BAD_CHECK == bench.ask(message).status

    @pytest.mark.parametrize("phase", [Phase.PREPARED, Phase.ACTIVE])
    def test_both_renew(
        self, line: Lineage, bench: Bench, phase: Phase
    ) -> None:
        """A certificate of either key."""
        first = self.enroll(bench)
        line.put(bench.ra, Phase.ACTIVE)
        second = self.enroll(bench, 2)
        line.put(bench.ra, phase)
        bench.clock.advance(300 * 86400)
        issuing = line.succession(phase).authority
        for number, old in enumerate((first, second)):
            message = self.renewal(bench, old, transaction=f"again-{number}")
            renewed = bench.enrolled(message, rsa_key())
            assert issued_by(line.authorities[issuing], renewed)

    def test_chain_with_the_answer(self, line: Lineage) -> None:
        """With include_chain, who knows one root only can verify it."""
        bench = Bench(authorities=line.authorities, include_chain=True)
        line.put(bench.ra, Phase.ACTIVE)
        reply = bench.ask(
            bench.message(content=csr(challenge=bench.challenge()))
        )
        (own, *others), _ = reply.opened(rsa_key())
        for one in line.authorities.values():
            assert leads(others, own, [one.chain[-1]])

    def test_get_cert(self, line: Lineage, bench: Bench) -> None:
        """A certificate of the old key is still found; later it is not."""
        own = self.enroll(bench)
        line.put(bench.ra, Phase.ACTIVE)
        new = self.enroll(bench, 2)
        message = bench.message(
            content=bench.named(own),
            certificate=new,
            message_type="21",
            recipient=bench.credential("issuing-2").certificate,
        )
        assert ([own], []) == bench.ask(message).opened(rsa_key())
        line.put(bench.ra, Phase.FINISHED)
        assert BAD_CERT_ID == bench.ask(message).status

    def test_get_crl(self, line: Lineage, bench: Bench) -> None:
        """Of the key that has signed what is named."""
        asked: list[str] = []
        crl = bench.ra.revocation.crl
        bench.ra.revocation.crl = lambda name, scope: (
            asked.append(name) or crl(name, scope)
        )
        old = self.enroll(bench)
        line.put(bench.ra, Phase.ACTIVE)
        new = self.enroll(bench, 2)
        issuer = subject_of(line.authorities["issuing"].certificate)
        for content in (
            bench.named(old),
            bench.named(new),
            issuer_and_serial(issuer, 4711),
        ):
            message = bench.message(
                content=content, certificate=new, message_type="22"
            )
            assert SUCCESS == bench.ask(message).status
        assert ["issuing", "issuing-2", "issuing-2"] == asked


# --- CMP --------------------------------------------------------------------


class CMPTests:
    """Messages of devices that know one root or the other."""

    @pytest.fixture
    def line(self) -> Lineage:
        """An authority with two keys."""
        return lineage()

    @pytest.fixture
    def site(self, line: Lineage) -> Site:
        """A gateway."""
        return make_site(authorities=line.authorities)

    def ask(self, site: Site, *items: tuple[str, bytes | None]) -> Reply:
        """Ask, with a secret."""
        return site.send(protected_by_secret(site.secret(), genm(*items)))

    def test_root_update(self, line: Lineage, site: Site) -> None:
        """RFC 9810, section 4.4: for who has the old root, from both."""
        (old, new) = (one.chain[-1] for one in line.authorities.values())
        expected = der.sequence(
            new,
            der.explicit(0, line.second.new_with_old),
            der.explicit(1, line.second.old_with_new),
        )
        for phase, answer in (
            (Phase.PREPARED, expected),
            (Phase.ACTIVE, expected),
            (Phase.FINISHED, None),
        ):
            line.put(site.ra, phase)
            for value, told_of in ((None, answer), (old, answer), (new, None)):
                reply = self.ask(site, ("rootCaCert", value))
                assert {"rootCaKeyUpdate": told_of} == told(reply)

    def test_root_that_stays(self) -> None:
        """There is no update then."""
        line = lineage(new_root=False)
        site = make_site(authorities=line.authorities)
        line.put(site.ra, Phase.ACTIVE)
        reply = self.ask(site, ("rootCaCert", None))
        assert {"rootCaKeyUpdate": None} == told(reply)

    def test_update_that_is_configured(
        self, line: Lineage, tmp_path: Path
    ) -> None:
        """It goes before, for who has the root of now."""
        (old, new) = (one.chain[-1] for one in line.authorities.values())
        path = tmp_path / "new.pem"
        path.write_bytes(
            x509.load_der_x509_certificate(old).public_bytes(Encoding.PEM)
        )
        site = make_site(
            authorities=line.authorities, root_update={"new": path}
        )
        line.put(site.ra, Phase.ACTIVE)
        for value, told_of in ((new, der.sequence(old)), (old, None)):
            reply = self.ask(site, ("rootCaCert", value))
            assert {"rootCaKeyUpdate": told_of} == told(reply)

    def test_ca_certs(self, line: Lineage, site: Site) -> None:
        """As ``/cacerts``."""
        for phase in (Phase.PREPARED, Phase.ACTIVE, Phase.FINISHED):
            line.put(site.ra, phase)
            certificates = line.succession(phase).certificates
            reply = self.ask(site, ("caCerts", None))
            assert {"caCerts": der.sequence(*certificates)} == told(reply)

    @pytest.mark.parametrize("phase", [Phase.PREPARED, Phase.ACTIVE])
    def test_either_root_verifies(
        self, line: Lineage, site: Site, phase: Phase
    ) -> None:
        """extraCerts lead from signer and certificate to either root."""
        device = site.enrolled()
        line.put(site.ra, phase)
        reply = site.send(signed(device, asks("cr"), **IMPLICIT))
        assert reply.is_signed()
        signer, *others = reply.extra_certs
        issuing = line.succession(phase).authority
        assert issued_by(line.authorities[issuing], signer)
        for one in line.authorities.values():
            for each in (signer, reply.certificate):
                assert leads(others, each, [one.chain[-1]])

    def test_no_links_in_the_end(self, line: Lineage, site: Site) -> None:
        """Nothing but the chain of the new key."""
        line.put(site.ra, Phase.FINISHED)
        device = site.enrolled()
        reply = site.send(signed(device, asks("cr"), **IMPLICIT))
        credential = result_of(
            site.ra.credentials.get("issuing-2", Purpose.CMP)
        )
        issuing = line.authorities["issuing-2"].chain[0]
        assert (credential.certificate, issuing) == reply.extra_certs

    @pytest.mark.parametrize("phase", [Phase.PREPARED, Phase.ACTIVE])
    def test_both_renew(self, line: Lineage, site: Site, phase: Phase) -> None:
        """A certificate of either key updates to one of the key that signs."""
        first = site.enrolled("first")
        line.put(site.ra, Phase.ACTIVE)
        second = site.enrolled("second")
        line.put(site.ra, phase)
        issuing = line.succession(phase).authority
        for name, device in (("first", first), ("second", second)):
            reply = site.send(signed(device, asks("kur", name), **IMPLICIT))
            assert ("kup", "accepted") == (reply.type, reply.pki_status)
            own = line.authorities[issuing]
            assert issued_by(own, reply.certificate)

    def test_transaction_across_the_change(
        self, line: Lineage, site: Site
    ) -> None:
        """What was begun with the old key is confirmed to the new one."""
        line.put(site.ra, Phase.PREPARED)
        device = site.enrolled()
        key = new_key()
        reply = site.send(signed(device, asks("kur", key=key)))
        assert issued_by(line.authorities["issuing"], reply.certificate)
        line.put(site.ra, Phase.ACTIVE)
        confirmed = site.send(
            signed(
                device,
                cert_conf(reply.certificate),
                **going_on(reply),
            )
        )
        assert "pkiconf" == confirmed.type
        assert confirmed.is_signed()

    def test_old_certificate_is_revoked_by_its_owner(
        self, line: Lineage, site: Site
    ) -> None:
        """By name and serial number, as before; and not once it is over."""
        device, other = site.enrolled("first"), site.enrolled("other")
        line.put(site.ra, Phase.ACTIVE)

        def revoke(one: Signer) -> Reply:
            template = CertTemplate(
                issuer=cn("Example CA"),
                serial=f"{serial_of(one.certificate):x}",
            )
            return site.send(signed(one, rev_req(template, 1)))

        assert ("rp", "accepted") == (
            revoke(device).type,
            revoke(other).pki_status,
        )
        assert "revoked" == site.record(device.certificate).status.value
        line.put(site.ra, Phase.FINISHED)
        assert "signerNotTrusted" == revoke(device).failure

    def test_crls(self, line: Lineage, site: Site) -> None:
        """currentCRL is that of now; crls brings those of both."""
        publisher: Any = site.ra.revocation
        result_of(Deferred.fromCoroutine(publisher.load()))
        line.put(site.ra, Phase.ACTIVE)
        crls = {
            name: result_of(publisher.crl(name, "")).der
            for name in line.authorities
        }
        found = told(self.ask(site, ("currentCRL", None)))
        assert {"currentCRL": crls["issuing-2"]} == found
        issuer = der.explicit(
            1, der.sequence(directory_name(cn("Example CA")))
        )
        status = der.sequence(der.sequence(issuer, b""))
        found = told(self.ask(site, ("crlStatusList", status)))
        assert {"crls": der.sequence(crls["issuing-2"], crls["issuing"])} == (
            found
        )

    def test_unknown_authority(self, line: Lineage, site: Site) -> None:
        """A generation that is gone has no credential."""
        line.put(site.ra, Phase.ACTIVE)
        site.ra.rules = evolve(site.ra.rules, authorities={}, successions={})
        with pytest.raises((UnknownCertificate, KeyError)):
            site.ra.succession(evolve(site.resource.endpoint, authority="x"))
