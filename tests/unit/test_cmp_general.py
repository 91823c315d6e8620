# SPDX-License-Identifier: MIT
"""
Tests for :mod:`trstctl.protocols.cmp`: general messages, factory
certificates, and what two processes do at once.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
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
    cert_req,
    cn,
    make_site,
    new_key,
    poll_req,
    protected_by_secret,
    signed,
    spki,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from trstctl.errors import Unavailable
from trstctl.model import CertificateStatus, RequestState
from trstctl.pkix import cmp_general, der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import PKIBody, read_message
from trstctl.pkix.cmp_bodies import read_gen_msg
from trstctl.pkix.cmp_itav import INFO_TYPES, InfoTypeAndValue
from trstctl.pkix.crmf_template import CertTemplate, directory_name
from trstctl.pkix.times import time
from trstctl.policy.profile import ProfileSettings
from trstctl.policy.settings import AllowSettings, SubjectRule
from trstctl.protocols.cmp.general import EVERYTHING
from trstctl.protocols.cmp.settings import CMPSettings, all_served
from trstctl.testing import EPOCH, TENANT, result_of


def genm(*items: tuple[str, bytes | None]) -> PKIBody:
    """Return a general message that asks for these types."""
    return PKIBody(
        "genm",
        der.sequence(
            *(
                InfoTypeAndValue(INFO_TYPES.get(name, name), value).der()
                for name, value in items
            )
        ),
    )


def told(reply: Reply) -> dict[str, bytes | None]:
    """Return what a genp tells, by type."""
    assert "genp" == reply.type
    body = read_message(reply.octets).body
    return {item.name: item.value for item in read_gen_msg(body.value)}


class GeneralTests:
    """genm and genp (RFC 9483, section 4.3)."""

    @pytest.fixture
    def site(self) -> Site:
        """A gateway."""
        return make_site()

    def ask(self, site: Site, *items: tuple[str, bytes | None]) -> Reply:
        """Ask, with a secret; it is not used up by that."""
        return site.send(protected_by_secret(site.secret(), genm(*items)))

    def test_an_empty_genm_asks_for_whatever_there_is(
        self, site: Site
    ) -> None:
        """RFC 9810, appendix D.5."""
        assert list(EVERYTHING) == list(told(self.ask(site)))

    def test_a_signed_genm_is_answered_signed(self, site: Site) -> None:
        """RFC 9483, section 3.2."""
        reply = site.send(signed(site.enrolled(), genm(("caCerts", None))))
        assert reply.is_signed()

    def test_ca_certs(self, site: Site) -> None:
        """RFC 9483, section 4.3.1."""
        chain = site.ra.ca_certificates(site.resource.endpoint)
        found = told(self.ask(site, ("caCerts", None)))
        assert {"caCerts": der.sequence(*chain)} == found

    def test_no_other_root(self, site: Site) -> None:
        """RFC 9483, section 4.3.2: no value where there is no update."""
        root = site.ra.ca_certificates(site.resource.endpoint)[-1]
        for value in (None, root):
            reply = self.ask(site, ("rootCaCert", value))
            assert {"rootCaKeyUpdate": None} == told(reply)

    def test_the_next_root(self, tmp_path: Path) -> None:
        """RFC 9810, section 5.3.19.15: for who has the root of now."""
        key, old_key = new_key(), new_key()
        new = root_of("next", key, key)
        link = root_of("next", key, old_key)
        files = {"new": tmp_path / "new.pem", "new_with_old": tmp_path / "l"}
        for path, made in zip(files.values(), (new, link), strict=True):
            path.write_bytes(made.public_bytes(Encoding.PEM))
        site = make_site(root_update=files)
        root = site.ra.ca_certificates(site.resource.endpoint)[-1]
        expected = der.sequence(
            new.public_bytes(Encoding.DER),
            der.explicit(0, link.public_bytes(Encoding.DER)),
        )
        another = root_of("other", key, key).public_bytes(Encoding.DER)
        for value, told_of in (
            (None, expected),
            (root, expected),
            (another, None),
        ):
            reply = self.ask(site, ("rootCaCert", value))
            assert {"rootCaKeyUpdate": told_of} == told(reply)

    def test_links_that_are_none_stop_the_start(self, tmp_path: Path) -> None:
        """G-1: what is wrong is found before anything listens."""
        key = new_key()
        pem = root_of("a", key, key).public_bytes(Encoding.PEM)
        other = new_key()
        (tmp_path / "a").write_bytes(pem)
        (tmp_path / "two").write_bytes(pem + pem)
        (tmp_path / "b").write_bytes(
            root_of("b", other, key).public_bytes(Encoding.PEM)
        )
        for new, link in (("missing", "a"), ("two", "a"), ("a", "b")):
            with pytest.raises(Unavailable) as raised:
                make_site(
                    root_update={
                        "new": tmp_path / new,
                        "new_with_old": tmp_path / link,
                    }
                )
            assert "protocols.cmp.root_update" in str(raised.value)

    def test_certificate_request_template(self) -> None:
        """RFC 9483, section 4.3.3: from the profile."""
        rules = ProfileSettings(
            subject={
                "O": SubjectRule(fixed="Example"),
                "CN": SubjectRule(required=True),
            },
            key_types=("rsa", "p-384"),
        )
        site = make_site({"own": rules}, profile="own")
        secret = site.secret(profile="own")
        reply = site.send(
            protected_by_secret(secret, genm(("certReqTemplate", None)))
        )
        value = told(reply)["certReqTemplate"] or b""
        assert b"Example" in value
        assert cmp_general.KEY_ALGORITHMS["p-384"] in value
        assert der.integer(2048) in value

    def test_keys_and_ciphers(self, site: Site) -> None:
        """What is certified, and with which parameters."""
        p256 = cmp_general.KEY_ALGORITHMS["p-256"]
        ec = der.oid("1.2.840.10045.2.1")
        found = told(
            self.ask(
                site,
                ("signKeyPairTypes", None),
                ("encKeyPairTypes", None),
                ("preferredSymmAlg", None),
                ("caProtEncCert", None),
                ("keyPairParamReq", ec),
            )
        )
        assert p256 in (found["signKeyPairTypes"] or b"")
        assert p256 == found["keyPairParamRep"]
        assert found["caProtEncCert"] is None
        unknown = self.ask(site, ("keyPairParamReq", der.oid("1.2.3")))
        assert {"keyPairParamRep": None} == told(unknown)

    def test_language(self, site: Site) -> None:
        """The one that there is; OpenSSL asks without a value."""
        tags = der.sequence(der.tlv(0x0C, b"de"), der.tlv(0x0C, b"en-GB"))
        for value in (tags, None):
            found = told(self.ask(site, ("suppLangTags", value)))
            assert {
                "suppLangTags": der.sequence(der.tlv(0x0C, b"en"))
            } == found

    def test_languages_that_are_not_spoken(self, site: Site) -> None:
        """RFC 9810, section 5.3.19.13: an error."""
        tags = der.sequence(der.tlv(0x0C, b"de"), der.tlv(0x0C, b"enm"))
        reply = self.ask(site, ("suppLangTags", tags))
        assert ("error", "badRequest", "language") == (
            reply.type,
            reply.failure,
            reply.code,
        )

    def test_crls(self, site: Site) -> None:
        """RFC 9483, section 4.3.4: only what is newer."""
        result_of_load(site)
        crl = result_of(site.ra.revocation.crl("issuing", ""))
        found = told(self.ask(site, ("currentCRL", None)))
        assert {"currentCRL": crl.der} == found
        for source, when, newer in (
            (cn("issuing CA"), None, True),
            (cn("issuing CA"), EPOCH - timedelta(days=1), True),
            (cn("issuing CA"), EPOCH + timedelta(days=1), False),
            (cn("another"), None, False),
        ):
            issuer = der.explicit(1, der.sequence(directory_name(source)))
            status = der.sequence(issuer, time(when) if when else b"")
            reply = self.ask(site, ("crlStatusList", der.sequence(status)))
            expected = der.sequence(crl.der) if newer else None
            assert {"crls": expected} == told(reply)

    def test_what_is_not_served_is_named(self, site: Site) -> None:
        """RFC 9810, section 5.3.19.7."""
        reply = self.ask(site, ("1.2.3.4", None), ("caProtEncCert", None))
        assert (
            der.sequence(der.oid("1.2.3.4"))
            == (told(reply)["unsupportedOIDs"])
        )

    @pytest.mark.parametrize(
        "item",
        [
            ("caCerts", b"\x05\x00"),
            ("crlStatusList", None),
            ("crlStatusList", b"\x05\x00"),
            ("keyPairParamReq", b"\x05\x00"),
        ],
    )
    def test_a_value_where_none_may_be_and_the_reverse(
        self, site: Site, item: tuple[str, bytes | None]
    ) -> None:
        """badRequest."""
        reply = self.ask(site, item)
        assert ("error", "badRequest") == (reply.type, reply.failure)

    def test_a_strict_endpoint_wants_language_tags(self) -> None:
        """RFC 9810, section 5.3.19.13."""
        site = make_site(mode="strict")
        reply = self.ask(site, ("suppLangTags", None))
        assert "badRequest" == reply.failure


def root_of(name: str, key: Any, signer: Any) -> x509.Certificate:
    """Return a certificate of a root."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return x509.CertificateBuilder(
        subject,
        subject,
        key.public_key(),
        5,
        EPOCH.replace(year=2020),
        EPOCH.replace(year=2040),
    ).sign(signer, hashes.SHA256())


def result_of_load(site: Site) -> None:
    """Publish the first CRL."""
    from twisted.internet.defer import Deferred

    publisher: Any = site.ra.revocation
    result_of(Deferred.fromCoroutine(publisher.load()))


class FactoryTests:
    """Factory certificates (RFC 9483, section 4.1.1; 3GPP TS 33.310)."""

    keys: list[Any]

    def vendor(self, tmp_path: Path, **settings: Any) -> tuple[Site, Signer]:
        """Return a gateway that trusts a vendor, and a device of it."""
        self.keys = keys = [new_key(), new_key(), new_key()]
        names = [
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
            for text in ("vendor root", "vendor CA", "unit-7")
        ]
        made = []
        for at in range(3):
            above = max(at - 1, 0)
            builder = x509.CertificateBuilder(
                names[above],
                names[at],
                keys[at].public_key(),
                at + 1,
                EPOCH.replace(year=2020),
                EPOCH.replace(year=2040),
            ).add_extension(x509.BasicConstraints(at < 2, None), critical=True)
            made.append(builder.sign(keys[above], hashes.SHA256()))
        anchors = tmp_path / "vendor.pem"
        anchors.write_bytes(made[0].public_bytes(Encoding.PEM))
        site = make_site(idevid={"anchors": (anchors,)}, **settings)
        device, issuer = (
            each.public_bytes(Encoding.DER) for each in (made[2], made[1])
        )
        return site, Signer(device, keys[2], (issuer,))

    def test_a_factory_certificate_enrolls(self, tmp_path: Path) -> None:
        """With its chain; the answer is signed."""
        site, device = self.vendor(tmp_path)
        reply = site.send(signed(device, asks("ir", "unit-7")))
        assert ("ip", "accepted") == (reply.type, reply.pki_status)
        assert reply.is_signed()
        done = site.send(
            signed(
                device,
                cert_conf(reply.certificate),
                transaction_id=reply.header.transaction_id,
                recip_nonce=reply.header.sender_nonce,
            )
        )
        assert "pkiconf" == done.type

    @pytest.mark.parametrize(
        ("mode", "failure"), [("interop", ""), ("strict", "wrongAuthority")]
    )
    def test_the_issuer_that_openssl_copies(
        self, tmp_path: Path, mode: str, failure: str
    ) -> None:
        """Of the factory certificate, which is no CA of ours."""
        site, device = self.vendor(tmp_path, mode=mode)
        key = new_key()
        template = CertTemplate(
            subject=cn("unit-7"),
            public_key=spki(key),
            issuer=read_certificate(device.certificate).issuer,
        )
        body = PKIBody("ir", der.sequence(cert_req(template, key)))
        assert failure == site.send(signed(device, body)).failure

    def test_an_incomplete_chain(self, tmp_path: Path) -> None:
        """RFC 9483, section 3.6: signerNotTrusted."""
        site, device = self.vendor(tmp_path)
        reply = site.send(
            signed(evolve(device, chain=()), asks("ir", "unit-7"))
        )
        assert ("error", "signerNotTrusted") == (reply.type, reply.failure)

    def test_an_unfit_one(self, tmp_path: Path) -> None:
        """A manufacturer's CA is no device."""
        site, device = self.vendor(tmp_path)
        issuer = Signer(device.chain[0], self.keys[1])
        reply = site.send(signed(issuer, asks("ir", "vendor CA")))
        assert ("error", "notAuthorized") == (reply.type, reply.failure)

    def test_one_that_is_refused(self, tmp_path: Path) -> None:
        """One that was stolen, by its digest."""
        _, device = self.vendor(tmp_path)
        digest = hashlib.sha256(device.certificate).hexdigest()
        idevid = {"anchors": (tmp_path / "vendor.pem",), "refused": (digest,)}
        site = make_site(idevid=idevid)
        reply = site.send(signed(device, asks("ir", "unit-7")))
        assert ("error", "notAuthorized") == (reply.type, reply.failure)

    def test_it_does_not_renew(self, tmp_path: Path) -> None:
        """The certificate that it got does."""
        site, device = self.vendor(tmp_path)
        reply = site.send(signed(device, asks("kur", "unit-7")))
        assert "notAuthorized" == reply.failure

    def test_a_name_that_is_not_its_own(self, tmp_path: Path) -> None:
        """The profile binds it to its factory name."""
        site, device = self.vendor(tmp_path)
        reply = site.send(signed(device, asks("ir", "unit-8")))
        assert ("ip", "badCertTemplate") == (reply.type, reply.failure)

    def test_its_held_request_is_polled_for(self, tmp_path: Path) -> None:
        """RFC 9483, section 4.4."""
        site, device = self.vendor(tmp_path)
        own = ProfileSettings(
            subject={"CN": SubjectRule()},
            approval="always",
            allow=AllowSettings(principals=("idevid",)),
        )
        anchors = site.resource.settings.idevid
        site = make_site({"own": own}, profile="own", idevid=anchors)
        waiting = site.send(signed(device, asks("ir", "unit-7")))
        assert "waiting" == waiting.pki_status
        (held,) = result_of(
            site.store.list_requests(TENANT, RequestState.HELD, 9)
        )
        now = site.ra.now()
        result_of(
            site.store.decide_request(
                TENANT, held.id, True, "me", "", now, now + timedelta(days=1)
            )
        )
        done = site.send(
            signed(
                device,
                poll_req(),
                transaction_id=waiting.header.transaction_id,
                recip_nonce=waiting.header.sender_nonce,
            )
        )
        assert "accepted" == done.pki_status


class RaceTests:
    """M-5: the store decides."""

    def test_the_second_answer_gives_way_to_the_first(self) -> None:
        """The same message at two processes: one answer for both."""
        site = make_site()
        message = protected_by_secret(site.secret(), asks())
        first = site.send(message)
        find = site.store.find_dialogue
        site.store.find_dialogue = hidden_once(site.store)
        assert first == site.send(message)
        site.store.find_dialogue = find

    def test_what_nobody_will_get_is_revoked(self) -> None:
        """Two clients with one transactionID at the same time."""
        site = make_site()
        first = site.send(
            protected_by_secret(
                site.secret(), asks(), transaction_id=bytes(16)
            )
        )
        site.store.find_dialogue = hidden_once(site.store)
        second = site.send(
            protected_by_secret(
                site.secret(), asks(), transaction_id=bytes(16)
            )
        )
        assert ("ip", "transactionIdInUse") == (second.type, second.failure)
        status = {
            record.serial: record.status
            for record in site.store.tables.certificates.values()
        }
        own = site.record(first.certificate).serial
        assert CertificateStatus.VALID is status.pop(own)
        assert [CertificateStatus.REVOKED] == list(status.values())

    def test_what_an_earlier_request_brought_stays(self) -> None:
        """A replayed certificate is its owner's, who has it."""
        site = make_site()
        secret, key = site.secret(), new_key()
        site.send(
            protected_by_secret(
                site.secret(), asks(), transaction_id=bytes(16)
            )
        )
        body = asks(key=key)
        own = site.send(protected_by_secret(secret, body, **IMPLICIT))
        site.store.find_dialogue = hidden_once(site.store)
        again = site.send(
            protected_by_secret(
                secret, body, **{**IMPLICIT, "transaction_id": bytes(16)}
            )
        )
        assert "transactionIdInUse" == again.failure
        status = site.record(own.certificate).status
        assert CertificateStatus.VALID is status

    def test_a_service_that_cannot_is_told_by_a_message(self) -> None:
        """M-1: systemUnavail."""
        site = make_site()

        def unavailable(*_: Any) -> Any:
            raise Unavailable

        site.store.find_dialogue = unavailable
        reply = site.send(protected_by_secret(site.secret(), asks()))
        assert ("error", "systemUnavail") == (reply.type, reply.failure)

    def test_without_a_credential_http_says_so(self) -> None:
        """Nothing can be signed then."""
        site = make_site()
        credentials: Any = site.ra.credentials
        credentials.error = Unavailable()
        assert 503 == site.send(b"0").status

    def test_an_unconfirmed_certificate_signs_nothing(self) -> None:
        """It may yet be revoked."""
        site = make_site()
        key = new_key()
        reply = site.send(protected_by_secret(site.secret(), asks(key=key)))
        refused = site.send(
            signed(Signer(reply.certificate, key), asks("kur"))
        )
        assert "badRequest" == refused.failure


def hidden_once(store: Any) -> Any:
    """Return a way to find dialogues that misses the first."""
    find = type(store).find_dialogue
    hidden = iter([True])

    def found(*args: Any) -> Any:
        from twisted.internet.defer import succeed

        return succeed(None) if next(hidden, False) else find(store, *args)

    return found


class SettingsTests:
    """The section ``protocols.cmp``."""

    def test_paths_are_relative_to_the_file(self, tmp_path: Path) -> None:
        """Also those of labels."""
        own = {"anchors": (Path("a.pem"),)}
        settings = CMPSettings.model_validate(
            {
                "idevid": own,
                "root_update": {"new": "new.pem"},
                "labels": {"x": {"idevid": own}, "y": {}},
            }
        ).located(tmp_path)
        assert settings.root_update is not None
        assert tmp_path / "new.pem" == settings.root_update.new
        assert settings.root_update.new_with_old is None
        label = settings.labels["x"].idevid
        assert label is not None
        assert (
            {tmp_path / "a.pem"}
            == set(settings.idevid.anchors)
            == set(label.anchors)
        )

    @pytest.mark.parametrize("text", ["0s", "9s", "8d"])
    def test_a_client_has_time_to_confirm(self, text: str) -> None:
        """Neither none nor for ever."""
        with pytest.raises(ValidationError):
            CMPSettings.model_validate({"confirm_timeout": text})
        good = CMPSettings.model_validate({"confirm_timeout": "10s"})
        assert 10 == good.confirm_timeout

    def test_an_enabled_protocol_needs_a_tenant(self) -> None:
        """As everywhere."""
        with pytest.raises(ValueError, match="tenant_id"):
            all_served("cmp", CMPSettings())

    def test_the_root_can_come_along(self) -> None:
        """Some base stations look for it in extraCerts."""
        site = make_site(include_root=True)
        reply = site.send(
            protected_by_secret(site.secret(), asks(), **IMPLICIT)
        )
        chain = site.ra.ca_certificates(site.resource.endpoint)
        assert chain == reply.extra_certs
