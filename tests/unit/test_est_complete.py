# SPDX-License-Identifier: MIT
"""
EST beyond the first certificate: what is demanded, links to the session,
registration authorities, factory certificates, replacement.
"""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from est_samples import (
    PKCS10,
    ROOT,
    ESTBench,
    Factory,
    ObedientClient,
    build_csr,
    extension_request,
    make_csr_with,
    pem_file,
    printable,
    subject_of,
)
from pydantic import ValidationError

from trstctl.config.reader import ConfigurationError, effective, load
from trstctl.discovery import discover
from trstctl.errors import Unavailable
from trstctl.model import CertificateStatus, GeneralName
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.csr import OTP_CHALLENGE, REVOCATION_CHALLENGE
from trstctl.pkix.names import (
    encode_general_names,
    encode_name,
    name_text,
)
from trstctl.plugin import ProtocolPlugin
from trstctl.policy.profile import (
    ProfileSettings,
    SubjectRule,
    builtin_profiles,
)
from trstctl.protocols.est.challenges import EST_IDENTITY_LINKING
from trstctl.testing import (
    EPOCH,
    TENANT,
    Connection,
    add_one_time_token,
    add_token,
    bearer,
    make_csr,
    read_response,
    request_octets,
    result_of,
    settings_for,
)

CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"
CHANGE = "1.3.6.1.5.5.7.7.36"
ANNOUNCED = {"fullcmc": True, "revocation_challenge": "announced"}
BINDING, OTHER_BINDING = b"b" * 12, b"o" * 32
DEVICE = builtin_profiles()["device"]
KEY = ec.generate_private_key(ec.SECP256R1())
PLUGIN: Any = ProtocolPlugin(
    "est", "trstctl.protocols.est.resource.ESTResource"
)


def link(binding: bytes = BINDING) -> bytes:
    """Return the value of an attribute that names a session."""
    return printable(base64.b64encode(binding).decode())


def dns(*names: str) -> tuple[GeneralName, ...]:
    """Return DNS names."""
    return tuple(GeneralName("dns", name) for name in names)


# --- settings ---------------------------------------------------------------


class SettingsTests:
    """What cannot be meant is refused at the start."""

    @pytest.mark.parametrize(
        "settings",
        [
            {"csrattrs": "on"},
            {"csrattrs_form": "rfc9908"},
            {"challenge_password": "yes"},
            {"pop": "maybe"},
            {"labels": {"a": {"pop": "maybe"}}},
            {"registration_authorities": {"a": {"names": ("cn:*",)}}},
            {"registration_authorities": {"a": {"subject": "CN=a"}}},
            {
                "registration_authorities": {
                    "a": {"subject": "CN=a", "names": ()}
                }
            },
            {
                "registration_authorities": {
                    "a": {"subject": "CN=a", "names": ("ap-*",)}
                }
            },
            {
                "registration_authorities": {
                    "a": {"serial": "xyz", "names": ("cn:*",)}
                }
            },
            {
                "registration_authorities": {
                    "a": {
                        "serial": "ab",
                        "names": ("cn:*",),
                        "operations": (),
                    }
                }
            },
            {
                "registration_authorities": {
                    "a": {"subject": "wlc-1", "names": ("cn:*",)}
                }
            },
            {"idevid": {"subject": {"XX": "*"}}},
            {"idevid": {"subject": {"CN": "re:("}}},
            {"idevid": {"names": ("no kind",)}},
            {"idevid": {"refused": ("ab",)}},
        ],
    )
    def test_faults(self, settings: dict[str, Any]) -> None:
        """A registration authority has somebody's certificate and names."""
        with pytest.raises(ValidationError):
            settings_for(PLUGIN, **settings)

    @pytest.mark.parametrize(
        "settings",
        [
            {"pop": "required", "csrattrs": "off"},
            {"pop": "required", "csrattrs_form": "template"},
            {"pop": "required", "labels": {"a": {"csrattrs": "off"}}},
            {"labels": {"a": {"pop": "required", "csrattrs": "off"}}},
            {"otp": "required", "csrattrs": "off"},
            {"labels": {"a": {"otp": "required", "csrattrs": "off"}}},
            {"otp": "required", "csrattrs_form": "template"},
            {**ANNOUNCED, "csrattrs": "off"},
            {**ANNOUNCED, "csrattrs_form": "template"},
        ],
    )
    def test_required_and_not_told(self, settings: dict[str, Any]) -> None:
        """RFC 8951, section 4, and RFC 7894, section 4: who requires a link
        or a one-time password MUST say so; what is announced is told."""
        with pytest.raises(ValidationError, match="needs csrattrs"):
            settings_for(PLUGIN, **settings)

    @pytest.mark.parametrize("mode", ["accepted", "announced"])
    def test_nothing_revokes(self, mode: str) -> None:
        """No password is kept where nobody could revoke by one."""
        taken = {"revocation_challenge": mode}
        for settings in (
            taken,
            {"labels": {"a": taken}},
            {
                **taken,
                "fullcmc": True,
                "labels": {"a": {"fullcmc": False}},
            },
        ):
            with pytest.raises(ValidationError, match="needs fullcmc"):
                settings_for(PLUGIN, **settings)
        settings_for(
            PLUGIN,
            **{**taken, "fullcmc": True},
            labels={"a": {"fullcmc": False, "revocation_challenge": "off"}},
        )

    def test_labels_inherit(self) -> None:
        """A label takes what it leaves out, and can take it back."""
        scope = {"serial": "00:AB:01", "names": ("cn:*",)}
        bench = ESTBench(
            pop="required",
            registration_authorities={"ra": scope},
            labels={
                "same": {},
                "own": {"pop": "verified", "registration_authorities": {}},
            },
        )
        served = bench.resource._served
        for label, required, scopes in (
            ("", True, 1),
            ("same", True, 1),
            ("own", False, 0),
        ):
            assert required is served[label].pop_required
            assert scopes == len(served[label].endpoint.scopes)
        assert "ab01" == served[""].endpoint.scopes[0].serial

    def test_subject_of_a_scope(self) -> None:
        """It is compared as the inventory has it, however it is spaced."""
        scope = {"subject": "CN=a, O=b\\, c", "names": ("cn:*",)}
        settings: Any = settings_for(
            PLUGIN, registration_authorities={"ra": scope}
        )
        found = settings.registration_authorities["ra"].subject
        assert "CN=a,O=b\\, c" == found

    @pytest.mark.parametrize(
        ("scope", "why"),
        [
            (
                {"certificate_profile": "none"},
                "registration_authorities.ra, unknown profile",
            ),
            (
                {"subject": "CN=a", "profiles": ["devise"]},
                "did you mean device?",
            ),
            ({"certificate_profile": "device"}, "add cmcRA to its"),
            ({"certificate_profile": "ra", "profiles": ["device"]}, ""),
        ],
    )
    def test_scope_that_nobody_can_meet(
        self, tmp_path: Path, scope: dict[str, Any], why: str
    ) -> None:
        """A profile that does not exist or has no cmcRA is told at once."""
        file = tmp_path / "trstctl.yaml"
        est = {
            "enabled": True,
            "tenant_id": TENANT,
            "registration_authorities": {"ra": {**scope, "names": ["cn:*"]}},
        }
        profiles = {"ra": {"extended_key_usage": ["clientAuth", "cmcRA"]}}
        file.write_text(
            json.dumps({"profiles": profiles, "protocols": {"est": est}})
        )
        if not why:
            assert load(file, discover().protocols).endpoints
            return
        with pytest.raises(ConfigurationError) as caught:
            load(file, discover().protocols)
        assert why in str(caught.value.faults[0])

    def test_anchors_are_relative_to_the_state(self, tmp_path: Path) -> None:
        """A relative path is below the state directory, for labels, too."""
        settings: Any = settings_for(
            PLUGIN,
            idevid={"anchors": (Path("a.pem"),)},
            labels={
                "b": {"idevid": {"anchors": (Path("b.pem"),)}},
                "c": {},
            },
        )
        found = settings.located(tmp_path)
        assert (tmp_path / "a.pem",) == found.idevid.anchors
        assert (tmp_path / "b.pem",) == found.labels["b"].idevid.anchors
        assert found.labels["c"].idevid is None

    def test_shown_as_it_is(self, tmp_path: Path) -> None:
        """What ``config show`` prints can be loaded again: the name of a
        meaning is no secret."""
        file = tmp_path / "trstctl.yaml"
        est = {
            "enabled": True,
            "tenant_id": TENANT,
            "challenge_password": "secret",
            "labels": {"a": {"challenge_password": "ignore"}},
            "idevid": {"anchors": ["a.pem"]},
        }
        file.write_text(json.dumps({"protocols": {"est": est}}))
        first = load(file, discover().protocols)
        shown = effective(first)
        assert "secret" == shown["protocols"]["est"]["challenge_password"]
        file.write_text(json.dumps(shown))
        second = load(file, discover().protocols)
        assert first.document == second.document

    def test_anchors_that_cannot_be_read(self, tmp_path: Path) -> None:
        """The start fails, and says which file it is."""
        with pytest.raises(Unavailable, match=r"idevid: .*nowhere\.pem"):
            ESTBench(idevid={"anchors": (tmp_path / "nowhere.pem",)})


# --- CSR attributes ---------------------------------------------------------

STRICT = ProfileSettings(
    key_types=("p-384",),
    digests=("sha384",),
    subject={
        "CN": SubjectRule(required=True),
        "O": SubjectRule(fixed="Example Ltd", allowed=False),
    },
    names={"dns": ("*",)},
    names_required=True,
)


class CSRAttributesTests:
    """What is told is enforced (RFC 7030, section 4.5)."""

    def test_off(self) -> None:
        """204 whatever the profile wishes."""
        bench = ESTBench({"device": STRICT}, csrattrs="off")
        answer = bench.get("/csrattrs")
        assert (204, b"") == (answer.status, answer.body)

    @pytest.mark.parametrize("knows_templates", [False, True])
    @pytest.mark.parametrize("form", ["classic", "extensions", "template"])
    @pytest.mark.parametrize("mode", ["advise", "enforce"])
    def test_literal_client(
        self, mode: str, form: str, knows_templates: bool
    ) -> None:
        """A request built from nothing but the answer is granted."""
        bench = ESTBench({"device": STRICT}, csrattrs=mode, csrattrs_form=form)
        answer = base64.b64decode(bench.get("/csrattrs").body)
        client = ObedientClient(
            answer,
            {"2.5.4.3": "d.example"},
            dns("d.example"),
            knows_templates=knows_templates,
        )
        issued = read_certificate(bench.issued(client.csr()))
        assert dns("d.example") == issued.names

    @pytest.mark.parametrize("knows_templates", [False, True])
    @pytest.mark.parametrize("form", ["classic", "extensions", "template"])
    @pytest.mark.parametrize("profile", sorted(builtin_profiles()))
    def test_built_in_profiles(
        self, profile: str, form: str, knows_templates: bool
    ) -> None:
        """Each profile that is there from the start says what it takes."""
        bench = ESTBench(
            profile=profile, csrattrs="enforce", csrattrs_form=form
        )
        answer = base64.b64decode(bench.get("/csrattrs").body)
        client = ObedientClient(
            answer or b"\x30\x00",
            {"2.5.4.3": "d.example"},
            dns("d.example"),
            knows_templates=knows_templates,
        )
        bench.issued(client.csr())

    def test_linking_client(self) -> None:
        """So is one that links as it is told to."""
        bench = ESTBench(pop="required")
        answer = base64.b64decode(bench.get("/csrattrs").body)
        client = ObedientClient(
            answer,
            {"2.5.4.3": "d.example"},
            (),
            base64.b64encode(BINDING).decode(),
        )
        assert {CHALLENGE_PASSWORD, EST_IDENTITY_LINKING} == set(
            client.attributes
        )
        bench.issued(client.csr(), binding=BINDING)

    @pytest.mark.parametrize("mode", ["secret", "ignore"])
    def test_link_beside_another_meaning(self, mode: str) -> None:
        """What challengePassword is not for, is not asked for."""
        bench = ESTBench(pop="required", challenge_password=mode)
        answer = base64.b64decode(bench.get("/csrattrs").body)
        client = ObedientClient(answer, {"2.5.4.3": "d"}, (), "x")
        assert {EST_IDENTITY_LINKING} == set(client.attributes)

    def test_who_ignores_it(self) -> None:
        """``enforce`` names all that is missing; ``advise`` does not."""
        usual = make_csr("d.example")
        settings: Any = evolve(DEVICE, names_required=False)
        for mode, status in (("advise", 200), ("enforce", 403)):
            bench = ESTBench(
                {"device": settings},
                csrattrs=mode,
                csrattrs_form="extensions",
            )
            assert status == bench.post(usual).status
        text = ESTBench(
            {"device": STRICT}, csrattrs="enforce", csrattrs_form="extensions"
        ).refused(403, usual)
        assert text.startswith("profile device, rule csr-attributes: ")
        for lacking in (
            "the extension subjectAltName",
            "the extension keyUsage as it was told",
            "the extension extendedKeyUsage as it was told",
            "a key of type p-384",
        ):
            assert lacking in text

    def test_re_enrollment(self) -> None:
        """A renewal is no exception, and a copy of the old one has it all."""
        bench = ESTBench(
            {"device": STRICT}, csrattrs="enforce", csrattrs_form="extensions"
        )
        answer = base64.b64decode(bench.get("/csrattrs").body)
        facts = {"2.5.4.3": "d.example"}
        client = ObedientClient(answer, facts, dns("d.example"))
        first = bench.issued(client.csr())
        # What is fixed in the certificate is in the next request.
        client.subject["2.5.4.10"] = "Example Ltd"
        client.subject = dict(reversed(client.subject.items()))
        bench.issued(client.csr(), "simplereenroll", certificate=first)


# --- linking ----------------------------------------------------------------


class LinkingTests:
    """Identity and proof of possession (RFC 7030, section 3.5)."""

    @pytest.mark.parametrize("oid", [CHALLENGE_PASSWORD, EST_IDENTITY_LINKING])
    @pytest.mark.parametrize("pop", ["verified", "required"])
    def test_verified(self, oid: str, pop: str) -> None:
        """One that is there MUST be verified, required or not."""
        bench = ESTBench(pop=pop)
        csr = make_csr_with({oid: [link()]})
        text = bench.refused(400, csr, binding=OTHER_BINDING)
        assert "is not the channel binding of this TLS session" in text
        assert "challenge_password: secret or ignore" in text
        bench.refused(400, csr)
        bench.issued(csr, binding=BINDING)

    def test_required(self) -> None:
        """Without one, the text says what is required."""
        bench = ESTBench(labels={"strict": {"pop": "required"}})
        csr = make_csr()
        text = bench.refused(400, csr, label="strict", binding=BINDING)
        assert "linking of identity and proof of possession" in text
        assert "tls-unique" in text
        assert "tls-exporter" in text
        bench.issued(csr, binding=BINDING)

    def test_re_enrollment(self) -> None:
        """A renewal links, too."""
        bench = ESTBench(pop="required")
        csr = make_csr_with({EST_IDENTITY_LINKING: [link()]}, key=bench.key)
        first = bench.issued(csr, binding=BINDING)
        plain = make_csr_with({}, key=bench.key)
        bench.refused(
            400, plain, "simplereenroll", certificate=first, binding=BINDING
        )
        bench.issued(csr, "simplereenroll", certificate=first, binding=BINDING)

    def test_comes_after_the_credential(self) -> None:
        """Who is nobody learns nothing of it."""
        bench = ESTBench(pop="required")
        bench.refused(401, make_csr(), password=False)

    def test_lost_answer(self) -> None:
        """Built anew for the next session, it is the same request."""
        bench = ESTBench(pop="required")
        found = {
            bench.issued(
                make_csr_with(
                    {EST_IDENTITY_LINKING: [link(binding)]}, key=bench.key
                ),
                binding=binding,
                Idempotency_Key="k",
            )
            for binding in (BINDING, OTHER_BINDING)
        }
        assert 1 == len(found)
        other = make_csr_with(
            {EST_IDENTITY_LINKING: [link()]}, "other", key=bench.key
        )
        bench.refused(422, other, binding=BINDING, Idempotency_Key="k")

    def test_lost_answer_of_a_token(self) -> None:
        """A token that is used up serves its own request again."""
        bench = ESTBench(pop="required")
        token = add_one_time_token(bench.store, "t")

        def csr(binding: bytes, common_name: str = "d") -> bytes:
            return make_csr_with(
                {
                    OTP_CHALLENGE: [printable(token)],
                    EST_IDENTITY_LINKING: [link(binding)],
                },
                common_name,
                key=bench.key,
            )

        found = {
            bench.issued(csr(one), binding=one, password=False)
            for one in (BINDING, OTHER_BINDING)
        }
        assert 1 == len(found)
        other = csr(BINDING, "e")
        bench.refused(401, other, binding=BINDING, password=False)

    def test_signed_by_another_key(self) -> None:
        """Built anew, it is still proven to hold its key."""
        bench = ESTBench()
        csr = make_csr_with({EST_IDENTITY_LINKING: [link()]}, key=bench.key)
        bench.issued(csr, binding=BINDING)
        forged = csr[:-2] + bytes((csr[-2] ^ 1, csr[-1]))
        bench.refused(400, forged, binding=BINDING)

    def test_approval(self) -> None:
        """
        RFC 7030, section 4.2.3: a held request is recognized, although it
        has to be built anew for each session.
        """
        settings: Any = evolve(DEVICE, approval="always")
        bench = ESTBench({"device": settings}, pop="required")
        for binding in (BINDING, OTHER_BINDING):
            csr = make_csr_with(
                {EST_IDENTITY_LINKING: [link(binding)]}, key=bench.key
            )
            assert 202 == bench.post(csr, binding=binding).status
        (row,) = result_of(bench.store.list_requests(TENANT, None, 9))
        day = timedelta(days=1)
        result_of(
            bench.store.decide_request(
                TENANT, row.id, True, "op", "", bench.now(), bench.now() + day
            )
        )
        third = b"t" * 12
        csr = make_csr_with(
            {EST_IDENTITY_LINKING: [link(third)]}, key=bench.key
        )
        bench.issued(csr, binding=third)


class SecretTests:
    """Secrets in a request."""

    @pytest.mark.parametrize(
        ("oid", "mode"),
        [
            (OTP_CHALLENGE, "pop"),
            (CHALLENGE_PASSWORD, "secret"),
        ],
    )
    def test_token(self, oid: str, mode: str) -> None:
        """It buys one certificate, and for one key only."""
        bench = ESTBench(challenge_password=mode)
        token = add_one_time_token(bench.store, "t", names=("cn:d.*",))
        csr = make_csr_with({oid: [printable(token)]})
        other = make_csr_with({oid: [printable(token)]}, "e.example")
        assert "principal-names" in bench.refused(403, other, password=False)
        issued = bench.issued(csr, password=False)
        assert "token:t" == bench.record(issued).principal
        assert issued == bench.issued(csr, password=False)
        anew = make_csr_with({oid: [printable(token)]})
        bench.refused(401, anew, password=False)
        wrong = make_csr_with({oid: [printable("wrong")]})
        assert bench.refused(401, wrong, password=False) == ""

    def test_required(self) -> None:
        """
        RFC 7894, section 4: what is required is in each /csrattrs, and a
        request without it is refused; a renewal needs none.
        """
        bench = ESTBench(otp="required")
        told = base64.b64decode(bench.get("/csrattrs").body)
        assert der.oid(OTP_CHALLENGE) in told
        text = bench.refused(403, make_csr_with({}))
        assert "otpChallenge" in text
        token = add_one_time_token(bench.store, "t")
        csr = make_csr_with({OTP_CHALLENGE: [printable(token)]}, key=bench.key)
        issued = bench.issued(csr, password=False)
        assert bench.record(issued).principal.startswith("token:")
        again = make_csr_with({}, key=bench.key)
        bench.issued(again, "simplereenroll", certificate=issued)

    def test_not_told_unless_required(self) -> None:
        """What is only taken is not announced."""
        for otp in ("off", "accepted"):
            told = base64.b64decode(ESTBench(otp=otp).get("/csrattrs").body)
            assert der.oid(OTP_CHALLENGE) not in told

    def test_off(self) -> None:
        """RFC 7894, section 4: one that is not processed is no success."""
        bench = ESTBench(otp="off")
        token = add_one_time_token(bench.store, "t")
        csr = make_csr_with({OTP_CHALLENGE: [printable(token)]})
        assert "no otpChallenge" in bench.refused(403, csr)

    def test_not_kept(self) -> None:
        """No secret is in what the store keeps of a request."""
        bench = ESTBench()
        token = add_one_time_token(bench.store, "t")
        csr = make_csr_with({OTP_CHALLENGE: [printable(token)]})
        bench.issued(csr, password=False)
        (row,) = result_of(bench.store.list_requests(TENANT, None, 10))
        assert token.encode() in csr
        assert token.encode() not in row.csr
        assert b"x" * len(token) in row.csr

    def test_one_that_is_wrong(self) -> None:
        """RFC 7894, section 4: beside a password, each must be right."""
        bench = ESTBench(challenge_password="secret")
        for oid in (OTP_CHALLENGE, CHALLENGE_PASSWORD):
            bench.refused(401, make_csr_with({oid: [printable("wrong")]}))

    def test_ignored(self) -> None:
        """``ignore`` lets any value pass."""
        bench = ESTBench(challenge_password="ignore")
        bench.issued(make_csr_with({CHALLENGE_PASSWORD: [printable("x")]}))

    def test_not_a_secret_by_default(self) -> None:
        """By default it names the session (RFC 7030, section 3.5)."""
        bench = ESTBench()
        csr = make_csr_with({CHALLENGE_PASSWORD: [printable("x")]})
        bench.refused(400, csr, binding=BINDING)

    def test_renewal_with_an_old_secret(self) -> None:
        """A device that copies its first request can renew."""
        bench = ESTBench(challenge_password="secret")
        token = add_one_time_token(bench.store, "t")
        csr = make_csr_with({CHALLENGE_PASSWORD: [printable(token)]})
        first = bench.issued(csr, password=False)
        bench.issued(csr, "simplereenroll", certificate=first)

    def test_revocation_challenge(self) -> None:
        """Nothing is promised that nobody keeps."""
        bench = ESTBench()
        csr = make_csr_with({REVOCATION_CHALLENGE: [printable("x")]})
        assert "revocationChallenge" in bench.refused(403, csr)


# --- registration authorities -----------------------------------------------

RA_PROFILE = ProfileSettings(extended_key_usage=("clientAuth", "cmcRA"))


def make_ra_bench(
    scope: dict[str, Any] | None = None, **settings: Any
) -> tuple[ESTBench, bytes]:
    """Return a bench, and the certificate of a registration authority."""
    scope = {
        "subject": "CN=ra-1",
        "names": ("cn:ap-*", "dns:*.ap.example"),
        **(scope or {}),
    }
    settings.setdefault("registration_authorities", {"wlc": scope})
    labels = settings.pop("labels", {})
    bench = ESTBench(
        {"ra": RA_PROFILE, "tls": ProfileSettings()},
        labels={"ra": {"profile": "ra"}, "tls": {"profile": "tls"}, **labels},
        **settings,
    )
    return bench, bench.issued(make_csr("ra-1"), label="ra")


def ap(number: int = 1, key: Any = None) -> bytes:
    """Return the request of a device behind a registration authority."""
    return make_csr(f"ap-{number}", (f"dns:{number}.ap.example",), key)


class RegistrationTests:
    """RFC 7030, section 3.7: id-kp-cmcRA."""

    def test_enrolls_within_its_scope(self) -> None:
        """Any number of devices, each with its own key and names."""
        bench, ra = make_ra_bench()
        for number in range(3):
            issued = bench.issued(ap(number), certificate=ra)
            record = bench.record(issued)
            assert f"CN=ap-{number}" == record.subject
            serial = read_certificate(ra).serial
            assert f"ra:issuing:{serial}" == record.principal

    @pytest.mark.parametrize(
        "csr",
        [
            make_csr("server-1"),
            make_csr("ap-1", ("dns:evil.example",)),
            make_csr("ap-1", ("dns:1.ap.example", "ip:192.0.2.1")),
            make_csr("ap-1", ("email:a@ap.example",)),
            make_csr(""),
        ],
    )
    def test_beyond_its_scope(self, csr: bytes) -> None:
        """No other name, whichever of them it is."""
        bench, ra = make_ra_bench()
        for operation in ("simpleenroll", "simplereenroll"):
            text = bench.refused(403, csr, operation, certificate=ra)
            assert "registration authority" in text

    @pytest.mark.parametrize("oid", ["2.5.4.5", "0.9.2342.19200300.100.1.1"])
    def test_says_who_by_another_attribute(self, oid: str) -> None:
        """serialNumber and user ID are names as well."""
        bench, ra = make_ra_bench()
        rules = {"serialNumber": SubjectRule(), "UID": SubjectRule()}
        bench.change(subject={**DEVICE.subject, **rules})
        for value, status in (("server-1", 403), ("ap-serial-7", 200)):
            subject = subject_of(("2.5.4.3", "ap-1"), (oid, value))
            answer = bench.post(request_for(subject, ()), certificate=ra)
            assert status == answer.status, answer.body

    def test_without_a_scope(self) -> None:
        """Default deny: id-kp-cmcRA by itself means nothing."""
        for scopes in (
            {},
            {"x": {"subject": "CN=ra-2", "names": ("cn:*", "dns:*")}},
            {"x": {"serial": "ab", "names": ("cn:*", "dns:*")}},
            {"x": {"certificate_profile": "no", "names": ("cn:*", "dns:*")}},
        ):
            bench, ra = make_ra_bench(registration_authorities=scopes)
            assert "certificate-" in bench.refused(403, ap(), certificate=ra)

    def test_without_the_usage(self) -> None:
        """A certificate of the subject that is none of a registration
        authority's speaks for nobody."""
        bench, _ = make_ra_bench()
        device = bench.issued(make_csr("ra-1"))
        text = bench.refused(403, ap(), certificate=device)
        assert "certificate-names" in text

    @pytest.mark.parametrize("condition", ["serial", "certificate_profile"])
    def test_other_conditions(self, condition: str) -> None:
        """By serial and by profile; all that are given must hold."""
        bench, ra = make_ra_bench({"subject": "", "serial": "ab"})
        value = read_certificate(ra).serial if condition == "serial" else "ra"
        scopes = [
            evolve(
                scope,
                serial="" if condition != "serial" else value,
                certificate_profile="" if condition == "serial" else value,
                subject=subject,
            )
            for scope in bench.resource._served[""].endpoint.scopes
            for subject in ("CN=other", "")
        ]
        served = bench.resource._served[""]
        for count, status in ((1, 403), (2, 200)):
            endpoint = evolve(served.endpoint, scopes=tuple(scopes[:count]))
            bench.resource._served[""] = evolve(served, endpoint=endpoint)
            assert status == bench.post(ap(), certificate=ra).status

    def test_profiles_of_a_scope(self) -> None:
        """Other profiles are not for it."""
        bench, ra = make_ra_bench({"profiles": ("device",)})
        bench.issued(ap(), certificate=ra)
        csr = make_csr("ap-7")
        text = bench.refused(403, csr, label="tls", certificate=ra)
        assert "principal-allowed" in text

    def test_operations_of_a_scope(self) -> None:
        """It may be limited to one of the two."""
        bench, ra = make_ra_bench({"operations": ("enroll",)})
        bench.issued(ap(), certificate=ra)
        text = bench.refused(403, ap(), "simplereenroll", certificate=ra)
        assert "may not renew" in text

    def test_profile_may_exclude_it(self) -> None:
        """``allow.principals`` counts it as a kind of its own."""
        bench, ra = make_ra_bench()
        allow = evolve(DEVICE.allow, principals=("basic", "certificate"))
        bench.change(allow=allow)
        assert "principal-allowed" in bench.refused(403, ap(), certificate=ra)

    def test_its_own_certificate(self) -> None:
        """It renews itself as any other, and for that needs no scope."""
        bench, ra = make_ra_bench()
        csr = make_csr("ra-1")
        renewed = bench.issued(csr, "simplereenroll", "ra", certificate=ra)
        assert bench.record(renewed).principal.startswith("certificate:")

    def test_linking_is_its_own_affair(self) -> None:
        """RFC 7030, section 3.7: the device's session is not ours."""
        bench, ra = make_ra_bench(labels={"pop": {"pop": "required"}})
        csr = make_csr_with(
            {EST_IDENTITY_LINKING: [link(OTHER_BINDING)]}, "ap-1"
        )
        for label in ("", "pop"):
            bench.issued(csr, label=label, certificate=ra, binding=BINDING)
        bench.issued(ap(2), label="pop", certificate=ra, binding=BINDING)
        # Nobody else's is.
        bench.refused(400, csr, binding=BINDING)

    def test_revoked(self) -> None:
        """Once its certificate is revoked, it speaks for nobody."""
        bench, ra = make_ra_bench()
        serial = read_certificate(ra).serial
        device = bench.issued(ap(), certificate=ra)
        assert device
        for reason in ("superseded", "keyCompromise"):
            result_of(bench.ra.revoke(TENANT, serial, reason, "op"))
            for operation in ("simpleenroll", "simplereenroll"):
                text = bench.refused(403, ap(), operation, certificate=ra)
                assert "has been revoked" in text

    def test_revoked_because_it_was_replaced(self) -> None:
        """Neither does one that its own renewal has replaced."""
        bench, ra = make_ra_bench()
        bench.issued(ap(), certificate=ra)
        renewed = bench.issued(
            make_csr("ra-1"), "simplereenroll", "ra", certificate=ra
        )
        serial = read_certificate(ra).serial
        result_of(bench.ra.revoke(TENANT, serial, "superseded", "op"))
        text = bench.refused(403, ap(), "simplereenroll", certificate=ra)
        assert "has been revoked" in text
        bench.issued(ap(), "simplereenroll", certificate=renewed)

    def test_expired(self) -> None:
        """Nor does an expired one, also not for a renewal."""
        bench, ra = make_ra_bench()
        device = bench.issued(ap(), certificate=ra)
        end = read_certificate(ra).not_after
        assert end < read_certificate(device).not_after
        bench.now.step(end - bench.now() + timedelta(seconds=1))
        for operation in ("simpleenroll", "simplereenroll"):
            text = bench.refused(403, ap(), operation, certificate=ra)
            assert "has expired" in text


class RegisteredRenewalTests:
    """A registration authority renews for its devices."""

    def test_renews(self) -> None:
        """The device's certificate is found by its names, and replaced."""
        bench, ra = make_ra_bench()
        first = bench.issued(ap(), certificate=ra)
        second = bench.issued(ap(), "simplereenroll", certificate=ra)
        assert second != first
        old = bench.record(first)
        assert CertificateStatus.SUPERSEDED is old.status
        assert read_certificate(second).serial == old.superseded_by
        (event,) = bench.audited("certificate.superseded")
        assert event["actor"].startswith("ra:issuing:")

    def test_what_the_device_enrolled_itself(self) -> None:
        """How the device got it does not matter; its names do."""
        bench, ra = make_ra_bench()
        bench.issued(make_csr("ap-1", ("dns:1.AP.example",)))
        bench.issued(ap(), "simplereenroll", certificate=ra)

    def test_by_its_common_name(self) -> None:
        """Without alternative names, the common name finds it."""
        bench, ra = make_ra_bench()
        bench.issued(make_csr("ap-1"))
        bench.issued(make_csr("ap-1"), "simplereenroll", certificate=ra)

    @pytest.mark.parametrize(
        "csr",
        [
            ap(2),
            make_csr("ap-1"),
            make_csr("ap-2", ("dns:1.ap.example",)),
            make_csr("ap-1", ("dns:1.ap.example", "dns:2.ap.example")),
        ],
    )
    def test_unknown(self, csr: bytes) -> None:
        """RFC 7030, section 4.2.2: the very subject and names."""
        bench, ra = make_ra_bench()
        bench.issued(ap(), certificate=ra)
        text = bench.refused(404, csr, "simplereenroll", certificate=ra)
        assert "no certificate with this subject" in text

    def test_of_no_name_to_look_for(self) -> None:
        """A subject without a common name finds nothing."""
        bench, ra = make_ra_bench({"names": ("email:*",)})
        subject = encode_name(
            subject_of(("1.2.840.113549.1.9.1", "a@b.example"))
        )
        csr = build_csr(bench.key, subject, {})
        bench.refused(404, csr, "simplereenroll", certificate=ra)

    def test_of_another_profile_or_authority(self) -> None:
        """What was issued elsewhere is not renewed here."""
        bench, ra = make_ra_bench(labels={"other": {"authority": "other"}})
        bench.issued(ap(), label="other")
        bench.refused(404, ap(), "simplereenroll", certificate=ra)
        bench.issued(make_csr("ap-3"), label="tls")
        csr = make_csr("ap-3")
        bench.refused(404, csr, "simplereenroll", certificate=ra)

    def test_revoked_device(self) -> None:
        """A revoked device is not brought back, not by an older one."""
        bench, ra = make_ra_bench()
        bench.issued(ap(), certificate=ra)
        second = bench.issued(ap(), "simplereenroll", certificate=ra)
        serial = read_certificate(second).serial
        result_of(bench.ra.revoke(TENANT, serial, "keyCompromise", "op"))
        text = bench.refused(403, ap(), "simplereenroll", certificate=ra)
        assert "the device's certificate has been revoked" in text

    def test_renamed_device(self) -> None:
        """Under its old name it is no more."""
        bench, ra = make_ra_bench()
        bench.change(renewal_changes=("cn:ap-*", "dns:*.ap.example"))
        first = bench.issued(make_csr("ap-1", key=bench.key))
        csr = renaming("ap-1", (), "ap-9")
        bench.issued(csr, "simplereenroll", certificate=first)
        old = make_csr("ap-1")
        text = bench.refused(403, old, "simplereenroll", certificate=ra)
        assert "replaced by one with other names" in text

    @pytest.mark.parametrize("seconds", [0, 60])
    def test_replay_of_an_older_renewal(self, seconds: int) -> None:
        """What the device has now is not replaced by what it had before."""
        bench, ra = make_ra_bench()
        bench.issued(ap(), certificate=ra)
        csr = ap()
        older = bench.issued(csr, "simplereenroll", certificate=ra)
        bench.now.step(timedelta(seconds=seconds))
        newest = bench.issued(ap(), "simplereenroll", certificate=ra)
        again = bench.issued(csr, "simplereenroll", certificate=ra)
        assert older == again
        assert CertificateStatus.VALID is bench.record(newest).status
        bench.issued(ap(), "simplereenroll", certificate=ra)

    def test_too_early(self) -> None:
        """The profile's window counts for it, too."""
        bench, ra = make_ra_bench()
        bench.change(renewal_window=timedelta(days=30))
        bench.issued(ap(), certificate=ra)
        text = bench.refused(403, ap(), "simplereenroll", certificate=ra)
        assert "renewal-window" in text


# --- factory certificates ---------------------------------------------------


@pytest.fixture(scope="module")
def factory() -> Factory:
    """Return a manufacturer."""
    return Factory()


class FactoryTests:
    """IDevIDs enroll by anchors of their own (RFC 7030, section 3.3.2)."""

    def bench(
        self, factory: Factory, folder: Path, **settings: Any
    ) -> ESTBench:
        """Return a bench that trusts the factory at one label."""
        anchors = pem_file(folder, "root.pem", factory.root)
        idevid = {"anchors": (anchors,), **settings}
        return ESTBench(labels={"factory": {"idevid": idevid}})

    def csr(self, **facts: str) -> bytes:
        """Return a request for a subject."""
        oids = {"cn": "2.5.4.3", "sn": "2.5.4.5", "uid": USER_ID, "mail": MAIL}
        subject = subject_of(*((oids[k], v) for k, v in facts.items()))
        key = ec.generate_private_key(ec.SECP256R1())
        return build_csr(key, encode_name(subject), {})

    def test_enrolls(self, factory: Factory, tmp_path: Path) -> None:
        """For the device that it is, as a principal of its own kind."""
        bench = self.bench(factory, tmp_path)
        idevid = factory.device("SN-1")
        issued = bench.issued(
            self.csr(cn="sn-1"),
            label="factory",
            certificate=idevid,
            chain=(factory.ca,),
        )
        record = bench.record(issued)
        assert record.principal.startswith("idevid:")
        assert "CN=sn-1" == record.subject

    def test_only_where_it_is_trusted(
        self, factory: Factory, tmp_path: Path
    ) -> None:
        """At another label it counts as not presented."""
        bench = self.bench(factory, tmp_path)
        idevid = factory.device()
        options: Any = {"certificate": idevid, "chain": (factory.ca,)}
        bench.refused(401, self.csr(cn="SN-1"), **options)
        bench.issued(self.csr(cn="x"), password=True, **options)

    @pytest.mark.parametrize("chain", [(), "other"])
    def test_no_path(
        self, factory: Factory, tmp_path: Path, chain: Any
    ) -> None:
        """Without the way to an anchor it is a stranger's."""
        bench = self.bench(factory, tmp_path)
        if chain == "other":
            other = Factory()
            idevid, chain = other.device(), (other.ca, other.root)
        else:
            idevid = factory.device()
        bench.refused(
            401,
            self.csr(cn="SN-1"),
            label="factory",
            certificate=idevid,
            chain=chain,
        )

    def test_anchor_below_the_root(
        self, factory: Factory, tmp_path: Path
    ) -> None:
        """Any CA can be an anchor; then nothing need be sent with it."""
        anchors = pem_file(tmp_path, "ca.pem", factory.ca)
        bench = ESTBench(idevid={"anchors": (anchors,)})
        bench.issued(self.csr(cn="SN-1"), certificate=factory.device())

    def test_not_good(self, factory: Factory, tmp_path: Path) -> None:
        """Expired, from the future, for others, or a CA: the text says so."""
        bench = self.bench(factory, tmp_path)
        server = (x509.ExtendedKeyUsageOID.SERVER_AUTH,)
        for idevid, why in (
            (factory.device(days=0), "expired"),
            (factory.device(usages=server), "not for TLS clients"),
            (factory.device(is_ca=True), "is a CA's"),
        ):
            bench.clock.advance(1)
            text = bench.refused(
                403,
                self.csr(cn="SN-1"),
                label="factory",
                certificate=idevid,
                chain=(factory.ca,),
            )
            assert why in text
        client = (x509.ExtendedKeyUsageOID.CLIENT_AUTH,)
        bench.issued(
            self.csr(cn="SN-1"),
            label="factory",
            certificate=factory.device(usages=client),
            chain=(factory.ca,),
        )
        early = self.bench(factory, tmp_path)
        early.now.step(timedelta(days=-3))
        text = early.refused(
            403,
            self.csr(cn="SN-1"),
            label="factory",
            certificate=factory.device(),
            chain=(factory.ca,),
        )
        assert "not yet valid" in text

    def refused_for_weakness(
        self, factory: Factory, folder: Path, **device: Any
    ) -> str:
        """Return why a device of a factory is refused."""
        return self.bench(factory, folder).refused(
            403,
            self.csr(cn="SN-1"),
            label="factory",
            certificate=factory.device(**device),
            chain=(factory.ca,),
        )

    def test_weak_key(self, factory: Factory, tmp_path: Path) -> None:
        """A factory key is held to the minimum of every other:
        no RSA below 2048 bits."""
        weak = rsa.generate_private_key(65537, 1024)
        told = self.refused_for_weakness(factory, tmp_path, key=weak)
        assert "the factory certificate is not good" in told
        assert "1024 bits" in told

    def test_weak_key_of_the_factory(self, tmp_path: Path) -> None:
        """And so is the key of a CA between."""
        factory = Factory(ca_key=rsa.generate_private_key(65537, 1024))
        told = self.refused_for_weakness(factory, tmp_path)
        assert "a CA certificate above" in told
        assert "1024 bits" in told

    def test_weak_signature(self, tmp_path: Path) -> None:
        """A digest that is not on the list vouches for nobody."""
        factory = Factory(
            ca_key=rsa.generate_private_key(65537, 2048),
            digest=hashes.SHA224(),
        )
        told = self.refused_for_weakness(factory, tmp_path)
        assert "it is signed with sha224" in told

    def test_chain_that_is_rubbish(
        self, factory: Factory, tmp_path: Path
    ) -> None:
        """What does not decode is no way to anywhere."""
        bench = self.bench(factory, tmp_path)
        # OpenSSL takes a certificate of any version in the handshake.
        version_6 = factory.ca.replace(
            b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1
        )
        assert version_6 != factory.ca
        for chain in ((b"\x30\x00",), (factory.ca, b""), (version_6,)):
            bench.refused(
                401,
                self.csr(cn="SN-1"),
                label="factory",
                certificate=factory.device(),
                chain=chain,
            )

    def test_whose_subject_is_another(
        self, factory: Factory, tmp_path: Path
    ) -> None:
        """Patterns over the factory certificate's own subject."""
        bench = self.bench(
            factory, tmp_path, subject={"O": "acme", "serialNumber": "SN-*"}
        )
        for idevid, status in (
            (factory.device(), 200),
            (factory.device("XX-1"), 403),
            (factory.device("SN-1", "Other"), 403),
            (factory.device("SN-1", ""), 403),
        ):
            answer = bench.post(
                self.csr(cn="SN-1"),
                label="factory",
                certificate=idevid,
                chain=(factory.ca,),
            )
            assert status == answer.status, answer.body

    @pytest.mark.parametrize(
        ("facts", "names", "status"),
        [
            ({"cn": "SN-1"}, (), 200),
            ({"cn": "model-7", "sn": "SN-1"}, (), 200),
            ({"cn": "model-7"}, (), 200),
            ({"cn": "host.dev.example", "sn": "sn-1"}, (), 200),
            ({"cn": "SN-1"}, ("own.acme.example",), 200),
            ({"cn": "SN-1"}, ("host.dev.example",), 200),
            ({"cn": "SN-2"}, (), 403),
            ({"cn": "host.dev.example"}, (), 403),
            ({"cn": "host.evil.example", "sn": "SN-1"}, (), 403),
            ({"cn": "SN-1", "sn": "SN-2"}, (), 403),
            ({"cn": "SN-1", "uid": "root"}, (), 403),
            ({"cn": "SN-1", "mail": "a@b.example"}, (), 403),
            ({"cn": "SN-1"}, ("host.evil.example",), 403),
        ],
    )
    def test_names(
        self,
        factory: Factory,
        tmp_path: Path,
        facts: dict[str, str],
        names: tuple[str, ...],
        status: int,
    ) -> None:
        """The device, by a name of its own or one that the operator gives."""
        bench = self.bench(
            factory,
            tmp_path,
            names=("cn:host.dev.*", "dns:*.dev.example"),
        )
        oids = {"cn": "2.5.4.3", "sn": "2.5.4.5", "uid": USER_ID, "mail": MAIL}
        subject = subject_of(*((oids[k], v) for k, v in facts.items()))
        csr = request_for(subject, dns(*names))
        idevid = factory.device(
            "SN-1", common_name="model-7", names=("own.acme.example",)
        )
        answer = bench.post(
            csr, label="factory", certificate=idevid, chain=(factory.ca,)
        )
        assert status == answer.status, answer.body
        if status == 403:
            assert b"idevid-names" in answer.body

    def test_no_patterns_allow_no_more(
        self, factory: Factory, tmp_path: Path
    ) -> None:
        """Without patterns there are only its own names."""
        bench = self.bench(factory, tmp_path)
        csr = request_for(subject_of(("2.5.4.5", "SN-1")), dns("h.example"))
        text = bench.refused(
            403,
            csr,
            label="factory",
            certificate=factory.device(),
            chain=(factory.ca,),
        )
        assert "dns:h.example is not for this device" in text

    def test_never_renews(self, factory: Factory, tmp_path: Path) -> None:
        """It buys a certificate; that one renews."""
        bench = self.bench(factory, tmp_path)
        options: Any = {
            "label": "factory",
            "certificate": factory.device(),
            "chain": (factory.ca,),
        }
        csr = self.csr(cn="SN-1")
        text = bench.refused(403, csr, "simplereenroll", **options)
        assert "factory certificate is not renewed here" in text
        issued = bench.issued(csr, **options)
        bench.issued(csr, "simplereenroll", "factory", certificate=issued)

    def test_refused(self, factory: Factory, tmp_path: Path) -> None:
        """A stolen device cannot buy the next certificate; others can."""
        stolen, other = factory.device("SN-1"), factory.device("SN-1")
        options: Any = {"label": "factory", "chain": (factory.ca,)}
        bench = self.bench(factory, tmp_path)
        csr = self.csr(cn="SN-1")
        bought = bench.issued(csr, certificate=stolen, **options)
        principal = bench.record(bought).principal
        for written in (principal, principal[7:].upper()):
            bench = self.bench(factory, tmp_path, refused=(written,))
            text = bench.refused(403, csr, certificate=stolen, **options)
            assert "factory certificate is refused" in text
            bench.issued(csr, certificate=other, **options)

    def test_anchor_that_has_expired(self, tmp_path: Path) -> None:
        """It is said that it is not the device's certificate."""
        factory = Factory()
        anchor = factory._sign(
            factory.ca_name,
            factory.ca_key,
            factory.root_name,
            factory.root_key,
            True,
            days=0,
        )
        anchors = pem_file(tmp_path, "old.pem", anchor)
        bench = ESTBench(idevid={"anchors": (anchors,)})
        bench.clock.advance(1)
        text = bench.refused(
            403, self.csr(cn="SN-1"), certificate=factory.device()
        )
        assert "a CA certificate above the factory certificate" in text
        assert "expired" in text

    def test_anchors_vouch_for_none_of_ours(self, tmp_path: Path) -> None:
        """RFC 7030, section 3.3.2: the two kinds are kept apart."""
        bench = ESTBench()
        chains = [one.chain for one in bench.authorities.values()]
        anchors = pem_file(
            tmp_path, "ours.pem", *(der for chain in chains for der in chain)
        )
        served = settings_for(PLUGIN, idevid={"anchors": (anchors,)})
        bench.resource = PLUGIN.make_resource(bench.ra, served)
        labelled: Any = settings_for(
            PLUGIN, labels={"other": {"authority": "other"}}
        )
        other = PLUGIN.make_resource(bench.ra, labelled)
        ours, bench.resource = bench.resource, other
        theirs = bench.issued(self.csr(cn="SN-1"), label="other")
        bench.resource = ours
        bench.refused(401, self.csr(cn="SN-1"), certificate=theirs)

    def test_many_labels(self, factory: Factory, tmp_path: Path) -> None:
        """What is remembered of anchors is bounded, and nothing depends
        on it."""
        bench = self.bench(factory, tmp_path)
        judge = bench.ra._authenticator._certificates  # type: ignore[attr-defined]
        judge._anchors.update(
            {(str(n).encode(),): None for n in range(64)}  # type: ignore[dict-item]
        )
        for _ in range(2):
            bench.issued(
                self.csr(cn="SN-1"),
                label="factory",
                certificate=factory.device(),
                chain=(factory.ca,),
            )
        assert 1 == len(judge._anchors)

    def test_resource_without_tls(
        self, factory: Factory, tmp_path: Path
    ) -> None:
        """Where there is no session, there is no chain, either."""
        bench = self.bench(factory, tmp_path)
        connection = Connection(bench.resource, secure=False)
        connection.send(
            request_octets(
                "POST",
                f"{ROOT}/factory/simpleenroll",
                base64.b64encode(self.csr(cn="SN-1")),
                PKCS10,
            )
        )
        assert 401 == read_response(connection.received()).status
        connection.lose()


USER_ID, MAIL = "0.9.2342.19200300.100.1.1", "1.2.840.113549.1.9.1"


def request_for(subject: Any, names: tuple[GeneralName, ...]) -> bytes:
    """Return a request for subject and names."""
    attributes = {}
    if names:
        attributes["1.2.840.113549.1.9.14"] = (extension_request((), names),)
    key = ec.generate_private_key(ec.SECP256R1())
    return build_csr(key, encode_name(subject), attributes)


# --- re-enrollment ----------------------------------------------------------


def renaming(
    common_name: str,
    names: tuple[str, ...],
    new: str,
    new_names: tuple[str, ...] = (),
    key: Any = None,
    **more: str,
) -> bytes:
    """Return a request with ChangeSubjectName (RFC 6402, section 2.8)."""
    oids = {"o": "2.5.4.10", "sn": "2.5.4.5", "mail": MAIL}
    pairs = [("2.5.4.3", new)] if new else []
    pairs += [(oids[short], value) for short, value in more.items()]
    fields = [encode_name(subject_of(*pairs))] if pairs else []
    if new_names:
        fields.append(encode_general_names(dns(*new_names)))
    return make_csr_with(
        {CHANGE: [der.sequence(*fields)]}, common_name, dns(*names), key
    )


class ChangeSubjectNameTests:
    """RFC 7030, section 4.2.2; RFC 6402, section 2.8."""

    NAMES = ("d.example", "e.example")
    PATTERNS = ("cn:new-*", "dns:*.new.example", "email:@new.example")

    def bench(self, *patterns: str) -> tuple[ESTBench, bytes]:
        """Return a bench and a certificate."""
        settings: Any = evolve(DEVICE, renewal_changes=patterns)
        bench = ESTBench({"device": settings})
        csr = make_csr_with({}, "d", dns(*self.NAMES), bench.key)
        return bench, bench.issued(csr)

    def test_changes(self) -> None:
        """Subject and names become what the attribute says."""
        bench, first = self.bench(*self.PATTERNS)
        csr = renaming("d", self.NAMES, "new-1", ("a.new.example",))
        issued = bench.issued(csr, "simplereenroll", certificate=first)
        facts = read_certificate(issued)
        assert "CN=new-1" == name_text(facts.subject)
        assert dns("a.new.example") == facts.names
        assert CertificateStatus.SUPERSEDED is bench.record(first).status

    def test_absent_is_removed(self) -> None:
        """RFC 6402, section 2.8: what is absent is not in the certificate."""
        bench, first = self.bench(*self.PATTERNS)
        csr = renaming("d", self.NAMES, "new-1")
        facts = read_certificate(
            bench.issued(csr, "simplereenroll", certificate=first)
        )
        assert ("CN=new-1", ()) == (name_text(facts.subject), facts.names)
        bench, first = self.bench(*self.PATTERNS)
        csr = renaming("d", self.NAMES, "", ("e.example",))
        facts = read_certificate(
            bench.issued(csr, "simplereenroll", certificate=first)
        )
        assert ("", dns("e.example")) == (
            name_text(facts.subject),
            facts.names,
        )

    def test_what_it_keeps(self) -> None:
        """Its own names need no pattern."""
        bench, first = self.bench("cn:new-*")
        csr = renaming("d", self.NAMES, "D", self.NAMES[:1])
        bench.issued(csr, "simplereenroll", certificate=first)

    @pytest.mark.parametrize(
        ("new", "names", "more"),
        [
            ("other", (), {}),
            ("new-1", ("evil.example",), {}),
            ("new-1", ("a.new.example", "evil.example"), {}),
            ("new-1", (), {"sn": "7"}),
            ("new-1", (), {"mail": "a@evil.example"}),
        ],
    )
    def test_beyond_the_patterns(
        self, new: str, names: tuple[str, ...], more: dict[str, str]
    ) -> None:
        """Nobody becomes somebody else."""
        bench, first = self.bench(*self.PATTERNS)
        csr = renaming("d", self.NAMES, new, names, **more)
        text = bench.refused(403, csr, "simplereenroll", certificate=first)
        assert "rule name-change" in text

    def test_rest_of_the_subject(self) -> None:
        """An organization is the profile's affair; an address is a name."""
        bench, first = self.bench(*self.PATTERNS)
        csr = renaming(
            "d", self.NAMES, "new-1", o="Example", mail="a@new.example"
        )
        bench.issued(csr, "simplereenroll", certificate=first)

    def test_not_allowed_by_default(self) -> None:
        """Without patterns a renewal keeps its names."""
        bench, first = self.bench()
        csr = renaming("d", self.NAMES, "D", self.NAMES)
        text = bench.refused(403, csr, "simplereenroll", certificate=first)
        assert "a renewal cannot change its names" in text

    def test_of_another(self) -> None:
        """The request itself must still name the certificate's owner."""
        bench, first = self.bench(*self.PATTERNS)
        for csr, rule in (
            (renaming("x", self.NAMES, "new-1"), "renewal-subject"),
            (renaming("d", self.NAMES[:1], "new-1"), "renewal-names"),
        ):
            text = bench.refused(403, csr, "simplereenroll", certificate=first)
            assert rule in text

    def test_enrollment(self) -> None:
        """An enrollment has no names to change."""
        bench, first = self.bench(*self.PATTERNS)
        csr = renaming("d", (), "new-1")
        assert "only a renewal" in bench.refused(403, csr)
        text = bench.refused(403, csr, certificate=first)
        assert "only a renewal" in text

    def test_registration_authority(self) -> None:
        """Old and new names must both be within its scope."""
        bench, ra = make_ra_bench()
        bench.change(renewal_changes=("cn:*",))
        bench.issued(make_csr("ap-1"))
        evil = renaming("ap-1", (), "server-1")
        text = bench.refused(403, evil, "simplereenroll", certificate=ra)
        assert "principal-names" in text
        good = renaming("ap-1", (), "ap-2")
        bench.issued(good, "simplereenroll", certificate=ra)


class ReplacementTests:
    """What a renewal does to the certificate that it replaces."""

    def bench(self, **profile: Any) -> tuple[ESTBench, bytes]:
        """Return a bench and a certificate."""
        settings: Any = evolve(DEVICE, **profile)
        bench = ESTBench({"device": settings})
        return bench, bench.issued(make_csr("d", key=bench.key))

    def renew(self, bench: ESTBench, certificate: bytes, **o: Any) -> bytes:
        """Renew with a request of its own."""
        csr = make_csr("d", key=bench.key)
        return bench.issued(
            csr, "simplereenroll", certificate=certificate, **o
        )

    def test_superseded(self) -> None:
        """It is superseded, by success only, and not revoked."""
        bench, first = self.bench(renewal_window=timedelta(days=30))
        bench.refused(403, make_csr("d"), "simplereenroll", certificate=first)
        assert CertificateStatus.VALID is bench.record(first).status
        assert bench.audited("certificate.superseded") == []
        bench.now.step(timedelta(days=340))
        second = self.renew(bench, first)
        record = bench.record(first)
        assert CertificateStatus.SUPERSEDED is record.status
        assert read_certificate(second).serial == record.superseded_by
        assert CertificateStatus.VALID is bench.record(second).status
        assert bench.audited("certificate.revoked") == []

    def test_revoked(self) -> None:
        """``revoke_on_reenroll`` revokes it, as superseded."""
        bench, first = self.bench(revoke_on_reenroll=True)
        csr = make_csr("d", key=bench.key)
        second = bench.issued(csr, "simplereenroll", certificate=first)
        record = bench.record(first)
        assert CertificateStatus.REVOKED is record.status
        assert "superseded" == record.revocation_reason
        assert CertificateStatus.VALID is bench.record(second).status
        # The answer was lost: the same request gets it, and no other.
        again = bench.issued(csr, "simplereenroll", certificate=first)
        assert second == again
        other = make_csr("d", key=bench.key)
        text = bench.refused(403, other, "simplereenroll", certificate=first)
        assert "has been revoked" in text
        bench.refused(403, csr, certificate=first)

    def test_enrollment_replaces_nothing(self) -> None:
        """Neither with a password nor with the certificate."""
        bench, first = self.bench(revoke_on_reenroll=True)
        bench.issued(make_csr("d"))
        bench.issued(make_csr("d"), certificate=first)
        assert CertificateStatus.VALID is bench.record(first).status

    def test_renewed_twice(self) -> None:
        """Who lost an answer for good renews again; all are replaced."""
        bench, first = self.bench()
        lost = self.renew(bench, first, Idempotency_Key="lost")
        third = self.renew(bench, first)
        serial = read_certificate(third).serial
        for old in (first, lost):
            record = bench.record(old)
            assert CertificateStatus.SUPERSEDED is record.status
            assert serial == record.superseded_by

    def test_replay_of_an_older_renewal(self) -> None:
        """It replaces nothing any more."""
        bench, first = self.bench()
        csr = make_csr("d", key=bench.key)
        old = bench.issued(csr, "simplereenroll", certificate=first)
        new = self.renew(bench, first)
        again = bench.issued(csr, "simplereenroll", certificate=first)
        assert old == again
        serial = read_certificate(new).serial
        assert serial == bench.record(first).superseded_by

    def test_two_at_once(self) -> None:
        """The last to be recorded replaces both, as if they came in turn."""
        bench, first = self.bench()
        whole = bench.store.record_certificate
        meanwhile: list[bytes] = []

        def record(*arguments: Any) -> Any:
            bench.store.record_certificate = whole
            meanwhile.append(self.renew(bench, first))
            return whole(*arguments)

        bench.store.record_certificate = record
        last = self.renew(bench, first)
        serial = read_certificate(last).serial
        for old in (first, *meanwhile):
            assert serial == bench.record(old).superseded_by
        assert CertificateStatus.VALID is bench.record(last).status

    def test_not_recorded(self, logged: Any) -> None:
        """I-11: the new one stands, and its replay makes up for it."""
        bench, first = self.bench()
        csr = make_csr("d", key=bench.key)
        whole = bench.store.supersede_certificate

        def fail(*_: Any) -> Any:
            raise OSError("the disk is full")

        bench.store.supersede_certificate = fail
        second = bench.issued(csr, "simplereenroll", certificate=first)
        assert CertificateStatus.VALID is bench.record(first).status
        assert 1 == len(logged.flush(OSError))
        bench.store.supersede_certificate = whole
        again = bench.issued(csr, "simplereenroll", certificate=first)
        assert second == again
        assert CertificateStatus.SUPERSEDED is bench.record(first).status

    def test_successor_is_revoked(self) -> None:
        """Whoever revokes a device must not find it back by an old one."""
        bench, first = self.bench()
        second = self.renew(bench, first)
        third = self.renew(bench, second)
        serial = read_certificate(third).serial
        result_of(bench.ra.revoke(TENANT, serial, "keyCompromise", "op"))
        for old in (first, second):
            for operation in ("simpleenroll", "simplereenroll"):
                text = bench.refused(
                    403, make_csr("d"), operation, certificate=old
                )
                assert "replaced the client certificate" in text

    def test_successor_was_revoked_by_its_own_renewal(self) -> None:
        """That is no reason to refuse."""
        bench, first = self.bench()
        second = self.renew(bench, first)
        third = self.renew(bench, second)
        serial = read_certificate(second).serial
        result_of(bench.ra.revoke(TENANT, serial, "superseded", "op"))
        self.renew(bench, first)
        assert third

    def test_replaced_too_often(self) -> None:
        """The way to the last successor is bounded."""
        bench, first = self.bench()
        chain = [first]
        for _ in range(16):
            chain.append(self.renew(bench, chain[-1]))
        csr = make_csr("d")
        text = bench.refused(403, csr, "simplereenroll", certificate=first)
        assert "has been replaced" in text
        self.renew(bench, chain[1])

    def test_on_hold(self) -> None:
        """Off hold, what was replaced is superseded again."""
        bench, first = self.bench()
        self.renew(bench, first)
        serial = read_certificate(first).serial
        hold = "certificateHold"
        result_of(bench.ra.revoke(TENANT, serial, hold, "op"))
        csr = make_csr("d")
        bench.refused(403, csr, "simplereenroll", certificate=first)
        result_of(
            bench.store.release_certificate(TENANT, serial, "op", bench.now())
        )
        assert CertificateStatus.SUPERSEDED is bench.record(first).status
        self.renew(bench, first)


class WindowTests:
    """When a renewal may come."""

    def test_says_when_to_come_back(self) -> None:
        """The date in the text, the seconds in ``Retry-After``."""
        settings: Any = evolve(DEVICE, renewal_window=timedelta(days=30))
        bench = ESTBench({"device": settings})
        csr = make_csr("d", key=bench.key)
        first = bench.issued(csr)
        answer = bench.post(csr, "simplereenroll", certificate=first)
        assert 403 == answer.status
        end = read_certificate(first).not_after
        opens = end - timedelta(days=30)
        text = answer.body.decode()
        for moment in (opens, end):
            assert moment.strftime("%Y-%m-%dT%H:%M:%SZ") in text
        wait = int(str(answer.headers["Retry-After"]))
        bench.now.step(timedelta(seconds=wait - 1))
        assert (
            403 == bench.post(csr, "simplereenroll", certificate=first).status
        )
        bench.now.step(timedelta(seconds=1))
        bench.issued(csr, "simplereenroll", certificate=first)

    def test_never(self) -> None:
        """What will not pass later says nothing of coming back."""
        bench = ESTBench()
        first = bench.issued(make_csr("d"))
        answer = bench.post(make_csr("e"), "simplereenroll", certificate=first)
        assert 403 == answer.status
        assert "Retry-After" not in answer.headers


class CopyTests:
    """libest copies every extension of the old certificate."""

    def copying(self, bench: ESTBench, old: bytes, **more: bytes) -> bytes:
        """Return a request with all that the old certificate says."""
        extensions = [
            (each.oid, each.value) for each in read_certificate(old).extensions
        ]
        extensions += list(more.items())
        return make_csr_with({}, "d", key=bench.key, extensions=extensions)

    def test_all_of_it(self) -> None:
        """They are allowed, and have no effect."""
        settings: Any = evolve(
            DEVICE, certificate_policies=("1.2.3.4",), names={"dns": ("*",)}
        )
        bench = ESTBench({"device": settings})
        first = bench.issued(make_csr("d", ("dns:d.example",), bench.key))
        csr = self.copying(bench, first)
        second = bench.issued(csr, "simplereenroll", certificate=first)
        old = {each.oid for each in read_certificate(first).extensions}
        assert old == {
            each.oid for each in read_certificate(second).extensions
        }
        assert {"2.5.29.14", "2.5.29.19", "2.5.29.32", "2.5.29.35"} <= old

    def test_after_a_change_of_the_profile(self) -> None:
        """What the old one said is no reason to refuse; it is not issued."""
        settings: Any = evolve(DEVICE, certificate_policies=("1.2.3.4",))
        bench = ESTBench({"device": settings})
        first = bench.issued(make_csr("d", key=bench.key))
        bench.change(
            key_usage=("digitalSignature",), extended_key_usage=("serverAuth",)
        )
        csr = self.copying(bench, first)
        second = bench.issued(csr, "simplereenroll", certificate=first)
        facts = read_certificate(second)
        assert (x509.ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,) == (
            facts.extended_key_usage
        )
        # An enrollment is no renewal, and what is new is no copy.
        assert "request-extensions" in bench.refused(403, csr)
        text = bench.refused(403, csr, certificate=first)
        assert "request-extensions" in text
        more = self.copying(bench, first, **{"1.2.3": b"\x05\x00"})
        text = bench.refused(403, more, "simplereenroll", certificate=first)
        assert "the extension 1.2.3 may not be requested" in text

    def test_certificate_without_extensions(self) -> None:
        """One of old times has nothing to copy."""
        builder = x509.CertificateBuilder(
            issuer_name=x509.Name([]),
            subject_name=x509.Name([]),
            public_key=KEY.public_key(),
            serial_number=1,
            not_valid_before=EPOCH,
            not_valid_after=EPOCH,
        )
        old = builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)
        assert () == read_certificate(old).extensions


class BearerTests:
    """The other credentials are what they were."""

    def test_token_in_the_header(self) -> None:
        """A bearer token beside a link."""
        bench = ESTBench(pop="required")
        token = add_token(bench.store, "t")
        csr = make_csr_with({EST_IDENTITY_LINKING: [link()]})
        bench.issued(csr, binding=BINDING, password=False, **bearer(token))
