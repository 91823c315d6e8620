# SPDX-License-Identifier: MIT
"""
revocationChallenge (RFC 7894, section 3.2), and who revokes by it (RFC 5272,
section 6.11).
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from attrs import evolve
from cmc_samples import (
    CMCBench,
    control,
    csr_of,
    octets,
    pki_data,
    revocation,
    signed_by,
    signed_by_key,
    tcr,
    unsigned,
    utf8,
)
from cmp_client import Signer, cn, new_key, self_signed
from est_samples import BMP, UTF8, make_csr_with, printable

from trstctl.backends.passwords import check_password
from trstctl.errors import Internal, PolicyViolation
from trstctl.model import (
    CertificateQuery,
    CertificateStatus,
    EnrollmentRequest,
    OneTimeToken,
    Operation,
    Password,
)
from trstctl.pkix import der
from trstctl.pkix.csr import REVOCATION_CHALLENGE, read_csr
from trstctl.pkix.names import encode_name
from trstctl.testing import (
    TENANT,
    add_one_time_token,
    make_request,
    result_of,
)

OTHER = "22222222-2222-2222-2222-222222222222"
BINDING, OTHER_BINDING = b"b" * 12, b"o" * 32
LINKING = "1.2.840.113549.1.9.16.2.58"
OTP = "1.2.840.113549.1.9.16.2.56"
WORD = "correct horse"


def challenge(text: str = WORD) -> Mapping[str, list[bytes]]:
    """Return the attribute."""
    return {REVOCATION_CHALLENGE: [printable(text)]}


class Bench(CMCBench):
    """Labels that keep such passwords, and one that does not."""

    def __init__(self, **settings: Any) -> None:
        off = {"revocation_challenge": "off"}
        super().__init__(
            **{
                "revocation_challenge": "accepted",
                "labels": {"off": off, "b": {}},
                **settings,
            }
        )

    def csr(self, text: str = WORD, name: str = "d.example") -> bytes:
        """Return a request with a password."""
        return make_csr_with(challenge(text), name, key=self.key)

    def verifier(self, certificate: bytes) -> str:
        """Return what is kept of a certificate's password."""
        return self.record(certificate).revocation_verifier

    def status(self, certificate: bytes) -> tuple[CertificateStatus, str]:
        """Return what the inventory says."""
        record = self.record(certificate)
        return record.status, record.revocation_reason


@pytest.fixture(name="bench")
def _bench() -> Bench:
    """Return a gateway that takes such passwords."""
    return Bench()


def asked(
    certificate: bytes, secret: bytes = WORD.encode(), **how: Any
) -> bytes:
    """Return a PKIData that asks for a revocation by a secret."""
    more = octets(secret) + how.pop("after", b"")
    value = revocation(certificate, more=how.pop("before", b"") + more, **how)
    return pki_data([control(4, "revokeRequest", value)])


class KeptTests:
    """What is kept of a password, and where."""

    def test_verifier(self, bench: Bench) -> None:
        """With the certificate: a hash that is right for the password."""
        issued = bench.issued(bench.csr())
        kept = bench.verifier(issued)
        assert kept.startswith("scrypt$")
        assert check_password(WORD, kept)
        assert not check_password(WORD.upper(), kept)
        plain = bench.issued(make_csr_with({}, key=new_key()))
        assert "" == bench.verifier(plain)

    @pytest.mark.parametrize(
        ("form", "codec"),
        [(UTF8, "utf-8"), (BMP, "utf-16-be"), (0x14, "latin-1")],
    )
    def test_every_form(self, bench: Bench, form: int, codec: str) -> None:
        """RFC 7894, section 3: whatever string it is, its text counts."""
        value = der.tlv(form, "\xfcber".encode(codec))
        issued = bench.issued(make_csr_with({REVOCATION_CHALLENGE: [value]}))
        assert check_password("\xfcber", bench.verifier(issued))
        message = unsigned(asked(issued, "\xfcber".encode()))
        assert "success" == bench.ask(message).status

    def test_renewal(self, bench: Bench) -> None:
        """Each certificate has its own, or none: a renewal does not take
        over what the one before came with."""
        first = bench.issued(bench.csr())
        bench.clock.advance(3600)
        again = bench.csr("another word")
        renewed = bench.issued(again, "simplereenroll", certificate=first)
        assert check_password("another word", bench.verifier(renewed))
        assert check_password(WORD, bench.verifier(first))
        plain = make_csr_with({}, "d.example", key=bench.key)
        last = bench.issued(plain, "simplereenroll", certificate=renewed)
        assert "" == bench.verifier(last)

    def test_full_cmc(self, bench: Bench) -> None:
        """In a PKCS #10 of a Full PKI Request, too."""
        key = new_key()
        csr = csr_of(key, attributes=challenge())
        message = signed_by_key(key, pki_data((), [tcr(csr)]))
        answer = bench.ask(message, password=True)
        assert "success" == answer.status, answer.text
        assert check_password(WORD, bench.verifier(answer.certificate))

    def test_serverkeygen(self) -> None:
        """For a key that is made here, too."""
        bench = Bench(
            labels={"k": {"serverkeygen": True}},
        )
        bench.change(server_key_generation=True)
        answer = bench.post(bench.csr(), "serverkeygen", "k")
        assert 200 == answer.status, answer.body
        rows = result_of(
            bench.store.list_certificates(CertificateQuery(TENANT))
        )
        for row in rows:
            found = result_of(bench.store.find_certificate(TENANT, row.serial))
            assert check_password(WORD, found.revocation_verifier)
        assert 1 == len(rows)

    @pytest.mark.parametrize("otherwise", ["", "signed anew"])
    def test_not_kept_elsewhere(self, bench: Bench, otherwise: str) -> None:
        """Neither the password nor the signature over it stays in the kept
        request; what is kept to compare requests has the slow hash in it."""
        csr = bench.csr()
        bench.issued(csr)
        if otherwise:
            bench.issued(bench.csr())
        (row,) = result_of(bench.store.list_requests(TENANT, None, 10))
        assert WORD.encode() in csr
        assert WORD.encode() not in row.csr
        assert b"x" * len(WORD) in row.csr
        signature = der.children(der.content(csr, der.SEQUENCE))[2][1]
        assert signature not in row.csr
        assert row.csr.endswith(bytes(len(signature)))
        records = result_of(bench.store.audit_records(TENANT, 0, 100))
        assert WORD not in "".join(one.body for one in records)

    def test_hold(self, bench: Bench) -> None:
        """It waits with the request, and is the certificate's in the end,
        whether the client repeats its request or polls."""
        bench.change(approval="always")
        key = new_key()
        csr = csr_of(key, attributes=challenge())
        message = signed_by_key(key, pki_data((), [tcr(csr)]))
        held = bench.ask(message, password=True)
        assert ("pending", True) == (held.status, held.pending is not None)
        (row,) = result_of(bench.store.list_requests(TENANT, None, 10))
        assert WORD.encode() not in row.csr
        result_of(
            bench.store.decide_request(
                TENANT, row.id, True, "op", "", bench.now(), row.key_expires
            )
        )
        assert held.pending is not None
        token, _ = held.pending
        query = pki_data([control(8, "queryPending", octets(token))])
        own = Signer(self_signed(key), key)
        answer = bench.ask(signed_by(own, query), password=True)
        assert "success" == answer.status, answer.text
        assert check_password(WORD, bench.verifier(answer.certificate))
        again = bench.ask(message, password=True)
        assert answer.certificate == again.certificate


class RequestTests:
    """Which requests are the same."""

    def test_repeated(self, bench: Bench) -> None:
        """The same request, also signed anew, gets the same certificate."""
        first = bench.csr()
        issued = bench.issued(first)
        assert issued == bench.issued(first)
        assert issued == bench.issued(bench.csr())

    def test_another_password(self, bench: Bench) -> None:
        """With another password, or none, it is another request: nobody
        relies on one that was not kept."""
        found = [
            bench.issued(bench.csr()),
            bench.issued(bench.csr("another word")),
            bench.issued(make_csr_with({}, "d.example", key=bench.key)),
        ]
        assert 3 == len(set(found))
        assert check_password("another word", bench.verifier(found[1]))

    def test_under_a_key(self, bench: Bench) -> None:
        """Under an idempotency key it is refused."""
        bench.issued(bench.csr(), Idempotency_Key="k")
        bench.refused(422, bench.csr("another"), Idempotency_Key="k")

    def test_paid_by_a_token(self, bench: Bench) -> None:
        """A single-use token buys one certificate, with one password."""
        token = add_one_time_token(bench.store, "t")

        def csr(text: str) -> bytes:
            attributes = {**challenge(text), OTP: [printable(token)]}
            return make_csr_with(attributes, key=bench.key)

        issued = bench.issued(csr(WORD), password=False)
        assert issued == bench.issued(csr(WORD), password=False)
        bench.refused(401, csr("another"), password=False)

    def test_in_another_session(self, bench: Bench) -> None:
        """Built anew for another session, it is the same."""

        def csr(binding: bytes) -> bytes:
            link = base64.b64encode(binding).decode()
            attributes = {**challenge(), LINKING: [printable(link)]}
            return make_csr_with(attributes, key=bench.key)

        found = {
            bench.issued(csr(one), binding=one)
            for one in (BINDING, OTHER_BINDING)
        }
        assert 1 == len(found)

    def test_nobody_has_it_hashed(self, bench: Bench) -> None:
        """I-19: it is hashed for who is proven, and for nobody else."""
        bench.ra.revocation_challenges = None  # type: ignore[assignment]
        bench.refused(401, bench.csr(), password=False)

    def test_no_content(self, bench: Bench) -> None:
        """I-19: a protocol says what else of the request counts; else the
        password itself would be part of a digest."""
        request = EnrollmentRequest(
            endpoint=bench.resource._served[""].endpoint,
            operation=Operation.ENROLL,
            wanted=make_request(),
            credentials=(Password("a", "pw"),),
            request_id="r",
            peer="192.0.2.1",
            revocation_challenge=WORD,
        )
        with pytest.raises(Internal):
            result_of(bench.ra.enroll(request))

    @pytest.mark.parametrize("protocol", ["scep", "cmp", "bootstrap"])
    def test_elsewhere(self, bench: Bench, protocol: str) -> None:
        """I-19: a protocol that keeps none refuses it: its sender would rely
        on it, and a guess could be tried on the digest of the request."""
        made = add_one_time_token(bench.store, "t")
        endpoint = bench.resource._served[""].endpoint
        request = EnrollmentRequest(
            endpoint=evolve(endpoint, protocol=protocol),
            operation=Operation.ENROLL,
            wanted=read_csr(bench.csr()),
            credentials=(OneTimeToken(made),),
            request_id="r",
            peer="192.0.2.1",
        )
        with pytest.raises(PolicyViolation) as caught:
            result_of(bench.ra.enroll(request))
        assert "revocation-challenge" == caught.value.rule
        assert not result_of(bench.store.list_requests(TENANT, None, 10))


class AnnouncedTests:
    """``revocation_challenge`` and /csrattrs (RFC 7894, section 4)."""

    @pytest.mark.parametrize("form", ["classic", "extensions"])
    def test_announced(self, form: str) -> None:
        """Told where the label says so, and not demanded."""
        for mode, told in (
            ("off", False),
            ("accepted", False),
            ("announced", True),
        ):
            bench = Bench(
                revocation_challenge=mode, csrattrs_form=form, labels={}
            )
            body = base64.b64decode(bench.get("/csrattrs").body)
            assert told is (der.oid(REVOCATION_CHALLENGE) in body)
        bench.issued(make_csr_with({}))

    def test_off(self, bench: Bench) -> None:
        """What is not kept is refused, in every operation."""
        csr = bench.csr()
        assert "revocationChallenge" in bench.refused(
            403, csr, "simpleenroll", "off"
        )
        device = bench.device()
        message = signed_by(
            device, pki_data((), [tcr(csr_of(new_key(), "d.example"))])
        )
        assert "success" == bench.ask(message, label="off").status
        csr = csr_of(new_key(), "d.example", challenge())
        told = bench.told(
            signed_by(device, pki_data((), [tcr(csr)])), label="off"
        )
        assert (403, "badRequest", [1]) == told


class RevokeTests:
    """revokeRequest with the password (RFC 5272, section 6.11)."""

    @pytest.mark.parametrize("reason", [0, 1, 3, 4, 5, 9])
    def test_unsigned(self, bench: Bench, reason: int) -> None:
        """A SignedData with no signatures, over TLS without a certificate,
        is answered by a Full PKI Response; dates and comments have no
        effect, and the audit record says how it was done."""
        issued = bench.issued(bench.csr())
        other = bench.issued(bench.csr(name="e.example"))
        data = asked(
            issued,
            reason=reason,
            before=der.tlv(0x18, b"20250101000000Z"),
            after=utf8("lost"),
        )
        answer = bench.ask(unsigned(data))
        assert (200, "success", [4]) == (
            answer.http.status,
            answer.status,
            answer.parts,
        )
        answer.check_signature()
        assert CertificateStatus.REVOKED is bench.status(issued)[0]
        assert CertificateStatus.VALID is bench.status(other)[0]
        (audited,) = bench.audited("certificate.revoked")
        assert "challenge:revocation" == audited["actor"]
        assert bench.record(issued).serial == audited["fields"]["serial"]

    def test_repeated(self, bench: Bench) -> None:
        """Once more is not wrong, and changes nothing: a secret is used
        once, and may be known to anybody afterwards."""
        issued = bench.issued(bench.csr())
        for reason in (4, 4, 1):
            message = unsigned(asked(issued, reason=reason))
            assert "success" == bench.ask(message).status
            assert (CertificateStatus.REVOKED, "superseded") == bench.status(
                issued
            )
        assert 1 == len(bench.audited("certificate.revoked"))
        wrong = unsigned(asked(issued, b"wrong"))
        assert (401, "badIdentity", [4]) == bench.told(wrong)

    def test_on_hold(self, bench: Bench) -> None:
        """What an operator holds, the secret revokes for good."""
        issued = bench.issued(bench.csr())
        serial = bench.record(issued).serial
        result_of(bench.ra.revoke(TENANT, serial, "certificateHold", "op"))
        message = unsigned(asked(issued, reason=1))
        assert "success" == bench.ask(message).status
        assert (CertificateStatus.REVOKED, "keyCompromise") == bench.status(
            issued
        )

    @pytest.mark.parametrize("reason", [6, 7, 8, 99])
    def test_not_for_good(self, bench: Bench, reason: int) -> None:
        """It puts nothing on hold and takes nothing off: whoever has seen it
        could do so again.  Nothing is told of secret or certificate."""
        issued = bench.issued(bench.csr())
        for secret in (WORD.encode(), b"wrong"):
            message = unsigned(asked(issued, secret, reason=reason))
            assert (400, "badRequest", [4]) == bench.told(message)
        assert CertificateStatus.VALID is bench.status(issued)[0]

    def test_superseded(self, bench: Bench) -> None:
        """What a renewal has replaced can be revoked by its own secret."""
        first = bench.issued(bench.csr())
        again = bench.csr("another word")
        renewed = bench.issued(again, "simplereenroll", certificate=first)
        assert CertificateStatus.SUPERSEDED is bench.status(first)[0]
        assert "success" == bench.ask(unsigned(asked(first))).status
        assert CertificateStatus.REVOKED is bench.status(first)[0]
        assert (401, "badIdentity", [4]) == bench.told(
            unsigned(asked(renewed))
        )

    def test_signed_by_somebody(self, bench: Bench) -> None:
        """Whoever signs beside it must have signed, and counts for nothing:
        neither a stranger, nor another device, nor the owner himself."""
        key = new_key()
        issued = bench.issued(make_csr_with(challenge(), "d.example", key=key))
        stranger = Signer(self_signed(new_key()), new_key())
        assert (400, "badMessageCheck", [0]) == bench.told(
            signed_by(stranger, asked(issued))
        )
        for signer in (
            bench.device("e.example"),
            Signer(issued, key),
        ):
            wrong = signed_by(signer, asked(issued, b"wrong"))
            assert (401, "badIdentity", [4]) == bench.told(wrong)
        own = new_key()
        stranger = Signer(self_signed(own), own)
        answer = bench.ask(signed_by(stranger, asked(issued), at=None))
        assert "success" == answer.status
        assert CertificateStatus.REVOKED is bench.status(issued)[0]

    def test_unknown_equals_wrong(self, bench: Bench) -> None:
        """No certificate, none of this CA, one without a password and a
        wrong password: the same answer, and the same work."""
        issued = bench.issued(bench.csr())
        plain = bench.issued(make_csr_with({}, key=new_key()))
        hashed: list[str] = []
        run = bench.ra.revocation_challenges._run_slowly  # type: ignore[attr-defined]

        def counted(function: Any, *args: Any) -> Any:
            hashed.append(function.__name__)
            return run(function, *args)

        bench.ra.revocation_challenges._run_slowly = counted  # type: ignore[attr-defined]
        messages = [
            asked(issued, b"wrong"),
            asked(issued, b""),
            asked(issued, b"\xff"),
            asked(plain),
            asked(plain, b""),
            asked(issued, serial=5),
            asked(issued, serial=-5),
            asked(issued, issuer=encode_name(cn("another CA"))),
        ]
        texts = set()
        for data in messages:
            message = unsigned(data)
            assert (401, "badIdentity", [4]) == bench.told(message)
            bench.clock.advance(60)
            texts.add(bench.ask(message).text)
            bench.clock.advance(60)
        assert 1 == len(texts)
        assert 2 * len(messages) * ["check_password"] == hashed
        assert CertificateStatus.VALID is bench.status(issued)[0]

    def test_of_another_tenant(self) -> None:
        """Tenants cannot meet, nor labels of two CAs."""
        bench = Bench(
            labels={
                "b": {"tenant_id": OTHER},
                "c": {"authority": "other"},
            }
        )
        issued = bench.issued(bench.csr())
        message = unsigned(asked(issued))
        for label in ("b", "c"):
            told = bench.told(message, label=label)
            assert (401, "badIdentity", [4]) == told
        assert CertificateStatus.VALID is bench.status(issued)[0]

    def test_at_another_label(self, bench: Bench) -> None:
        """Any label of tenant and CA that takes passwords will do."""
        issued = bench.issued(bench.csr())
        message = unsigned(asked(issued))
        assert (400, "noSupport", [4]) == bench.told(message, label="off")
        assert "success" == bench.ask(message, label="b").status

    def test_guessed(self, bench: Bench) -> None:
        """Guessing is throttled, and the refusals are in the audit log."""
        issued = bench.issued(bench.csr())
        for _ in range(10):
            message = unsigned(asked(issued, b"wrong"))
            assert (401, "badIdentity", [4]) == bench.told(message)
        answer = bench.ask(message)
        assert (429, "tryLater") == (answer.http.status, answer.failure)
        assert answer.http.headers["Retry-After"]
        assert (429, "tryLater", [4]) == bench.told(unsigned(asked(issued)))
        refused = bench.audited("request.refused")
        errors = [one["fields"]["error"] for one in refused]
        assert {"ChallengeRejected": 10, "Throttled": 2} == Counter(errors)
        bench.clock.advance(60)
        assert "success" == bench.ask(unsigned(asked(issued))).status

    def test_password_beside_it(self, bench: Bench) -> None:
        """Nothing else speaks: a wrong password of HTTP changes nothing."""
        issued = bench.issued(bench.csr())
        answer = bench.ask(
            unsigned(asked(issued)), Authorization="Basic YTp3cm9uZw=="
        )
        assert "success" == answer.status

    def test_corrupted(self, bench: Bench) -> None:
        """Cut off or changed in an octet, it is read or refused by a
        message, and never revokes another certificate."""
        issued = bench.issued(bench.csr())
        message = unsigned(asked(issued, b"x"))
        places = range(len(message))
        changed = [message[:at] for at in places]
        changed += [
            message[:at] + bytes((message[at] ^ flipped,)) + message[at + 1 :]
            for at in places
            for flipped in (1, 0x80)
        ]
        for one in changed:
            bench.clock.advance(6)
            assert "success" != bench.ask(one).status
        assert CertificateStatus.VALID is bench.status(issued)[0]

    def test_wrong_content(self, bench: Bench) -> None:
        """The content is a PKIData (RFC 5272, section 3.2)."""
        message = unsigned(b"x", "1.2.840.113549.1.7.1")
        assert (400, "badRequest", [0]) == bench.told(message)

    def test_too_long(self, bench: Bench) -> None:
        """No secret is longer than 255 characters."""
        issued = bench.issued(bench.csr())
        message = unsigned(asked(issued, b"x" * 1021))
        assert (400, "badRequest", [4]) == bench.told(message)
