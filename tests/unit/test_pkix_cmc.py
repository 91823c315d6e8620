# SPDX-License-Identifier: MIT
"""PKIData and PKIResponse of CMC (RFC 5272), bytes to values and back."""

from __future__ import annotations

import base64
import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from cmc_samples import (
    HMAC_SHA256,
    SHA256,
    control,
    crm,
    crmf_of,
    csr_of,
    key_id,
    octets,
    orm,
    pki_data,
    revocation,
    signed_by_key,
    tcr,
    utf8,
    witness,
)
from cmp_client import NULL, new_key, self_signed
from est_samples import decoded
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.der.encoder import encode
from pyasn1.type import univ
from pyasn1_alt_modules import rfc2986, rfc6402

from trstctl.errors import (
    Malformed,
    RequestError,
    TooLarge,
    UnsupportedAlgorithm,
)
from trstctl.model import NameAttribute
from trstctl.pkix import der
from trstctl.pkix.cmc import (
    FAILURES,
    MAX_PARTS,
    PKI_DATA,
    STATUSES,
    Control,
    StatusInfo,
    pki_response,
    read_pki_data,
)
from trstctl.pkix.cmc_controls import (
    CONTROLS,
    NAMES,
    LraPopWitness,
    RevokeRequest,
    read_identification,
    read_lra_pop_witness,
    read_number,
    read_octets,
    read_revoke_request,
    read_witness,
    single,
)
from trstctl.pkix.cms import subject_public_key
from trstctl.pkix.signed import read_signed_data, verify_signer

KEY = new_key()
CSR = csr_of(KEY)
INFO = der.sequence(
    der.integer(5),
    der.sequence(der.oid("1.2.3"), der.explicit(0, NULL)),
)
OTHER = der.sequence(der.integer(6), der.oid("1.2.3"), NULL)
WHOLE = pki_data(
    [control(1, "senderNonce", octets(b"n")), control(2, "1.2.3", NULL)],
    [tcr(CSR, 3), crm(crmf_of(KEY, number=4)), orm(7)],
    [INFO],
    [OTHER],
)


class PKIDataTests:
    """read_pki_data."""

    def test_whole(self) -> None:
        """Every field of every kind of part."""
        found = read_pki_data(WHOLE)
        assert (
            Control(1, CONTROLS["senderNonce"], (octets(b"n"),)),
            Control(2, "1.2.3", (NULL,)),
        ) == found.controls
        assert [(3, "tcr"), (4, "crm"), (7, "orm")] == [
            (one.body_part_id, one.choice) for one in found.requests
        ]
        assert CSR == found.requests[0].der
        assert der.SEQUENCE == found.requests[1].der[0]
        assert der.oid("1.2.3.4") == found.requests[2].der
        assert ((5,), (6,)) == (found.content_infos, found.others)
        requests = der.children(der.content(WHOLE, der.SEQUENCE))[1][2]
        assert requests == found.req_sequence

    def test_empty(self) -> None:
        """All four sequences may be empty, and must be there."""
        found = read_pki_data(pki_data())
        assert ((), (), (), ()) == (
            found.controls,
            found.requests,
            found.content_infos,
            found.others,
        )

    def test_other_decoder(self) -> None:
        """pyasn1 reads the samples as we do."""
        found = decoded(WHOLE, rfc6402.PKIData())
        assert 3 == int(found["reqSequence"][0]["tcr"]["bodyPartID"])
        assert 4 == int(found["reqSequence"][1]["crm"]["certReq"]["certReqId"])
        assert 6 == int(found["otherMsgSequence"][0]["bodyPartID"])

    def test_other_encoder(self) -> None:
        """We read what pyasn1 writes."""
        data = rfc6402.PKIData()
        made = data["controlSequence"]
        made[0]["bodyPartID"] = 9
        made[0]["attrType"] = univ.ObjectIdentifier("1.3.6.1.5.5.7.7.4")
        made[0]["attrValues"][0] = univ.Any(octets(b"x"))
        request = data["reqSequence"]
        request[0]["tcr"]["bodyPartID"] = 10
        request[0]["tcr"]["certificationRequest"] = decoded(
            CSR, rfc2986.CertificationRequest()
        )
        data["cmsSequence"].clear()
        data["otherMsgSequence"].clear()
        found = read_pki_data(encode(data))
        assert (Control(9, CONTROLS["dataReturn"], (octets(b"x"),)),) == (
            found.controls
        )
        assert (10, CSR) == (
            found.requests[0].body_part_id,
            found.requests[0].der,
        )

    @pytest.mark.parametrize(
        "data",
        [
            pki_data([control(1, "1.2.3")], [tcr(CSR, 1)]),
            pki_data([control(0, "1.2.3")]),
            pki_data((), [tcr(CSR, 5)], [INFO]),
            pki_data((), [crm(crmf_of(KEY, number=6))], (), [OTHER]),
            pki_data((), (), [INFO, INFO]),
            pki_data([control(-1, "1.2.3")]),
            pki_data([control(4294967296, "1.2.3")]),
        ],
    )
    def test_ids(self, data: bytes) -> None:
        """Section 3.2.2: 1 to 4294967295, each once in the whole."""
        with pytest.raises(Malformed, match="bodyPartID"):
            read_pki_data(data)

    def test_largest_id(self) -> None:
        """Section 3.2.2: bodyIdMax."""
        found = read_pki_data(pki_data([control(4294967295, "1.2.3")]))
        assert 4294967295 == found.controls[0].body_part_id

    @pytest.mark.parametrize(
        "data",
        [
            NULL,
            der.sequence(),
            der.sequence(*3 * [der.sequence()]),
            der.sequence(*5 * [der.sequence()]),
            der.sequence(*3 * [der.sequence()], NULL),
            pki_data([NULL]),
            pki_data([der.sequence()]),
            pki_data([der.set_of(der.integer(1))]),
            pki_data([der.sequence(der.integer(1), der.oid("1.2.3"), NULL)]),
            pki_data((), [CSR]),
            pki_data((), [der.tlv(0xA0, der.integer(1))]),
            pki_data((), [der.tlv(0xA0, der.integer(1) + NULL)]),
            pki_data((), [der.tlv(0xA1, b"")]),
            pki_data((), [der.tlv(0xA1, der.sequence())]),
            pki_data((), [der.tlv(0xA1, der.sequence(NULL))]),
            pki_data((), [der.tlv(0xA2, der.integer(1))]),
            pki_data((), [der.tlv(0xA3, der.integer(1))]),
            pki_data((), (), [der.sequence(der.integer(1), NULL)]),
            pki_data((), (), (), [der.sequence(der.integer(1))]),
            pki_data((), (), (), [der.set_of(*3 * [NULL])]),
            pki_data((), (), (), [der.sequence(*3 * [NULL])]),
            pki_data(
                (),
                (),
                (),
                [der.sequence(NULL, der.oid("1.2.3"), NULL)],
            ),
        ],
    )
    def test_malformed(self, data: bytes) -> None:
        """Anything else is no PKIData."""
        with pytest.raises(Malformed):
            read_pki_data(data)

    def test_too_many(self) -> None:
        """Refused before any is looked at."""
        parts = [control(n, "1.2.3") for n in range(1, MAX_PARTS + 2)]
        assert MAX_PARTS == len(read_pki_data(pki_data(parts[1:])).controls)
        with pytest.raises(TooLarge):
            read_pki_data(pki_data(parts))

    def test_too_large(self) -> None:
        """More octets than the limit."""
        with pytest.raises(TooLarge):
            read_pki_data(WHOLE, max_bytes=len(WHOLE) - 1)
        read_pki_data(WHOLE, max_bytes=len(WHOLE))

    def test_every_prefix(self) -> None:
        """No beginning of one is one."""
        for length in range(len(WHOLE)):
            with pytest.raises(RequestError):
                read_pki_data(WHOLE[:length])

    def test_every_corruption(self) -> None:
        """Whatever a changed octet makes of it, nothing else is raised."""
        for at in range(len(WHOLE)):
            for change in (0x01, 0x20, 0x80, 0xFF):
                broken = bytearray(WHOLE)
                broken[at] ^= change
                with contextlib.suppress(RequestError):
                    read_pki_data(bytes(broken))

    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        """Arbitrary octets."""
        with contextlib.suppress(RequestError):
            read_pki_data(data)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(sorted(CONTROLS)),
                st.lists(st.binary(max_size=20).map(octets), max_size=3),
            ),
            max_size=8,
        )
    )
    def test_round_trip(self, made: list[tuple[str, list[bytes]]]) -> None:
        """Controls are what they were."""
        data = pki_data(
            control(n, name, *values)
            for n, (name, values) in enumerate(made, 1)
        )
        found = read_pki_data(data).controls
        assert [(CONTROLS[name], sorted(values)) for name, values in made] == [
            (one.oid, list(one.values)) for one in found
        ]


#: What ``openssl cms -sign -econtent_type 1.3.6.1.5.5.7.12.2`` of OpenSSL 3.0
#: made of a PKIData, without and with indefinite lengths (-stream).
OPENSSL = """
MIIDQgYJKoZIhvcNAQcCoIIDMzCCAy8CAQMxDTALBglghkgBZQMEAgEwLAYIKwYBBQUHDAKgIAQe
MBwwFDASAgEBBggrBgEFBQcHBTEDAgEHMAAwADAAoIIBczCCAW8wggEVoAMCAQICFGwJl8CpqTaQ
2bNeJ0SaIRrSuFtmMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAWQwIBcNMjYxMTIzMTkwNzU4WhgP
MjEyNjEwMzAxOTA3NThaMAwxCjAIBgNVBAMMAWQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASj
iAIFOQsDIvKuIepwYxzsdocd53GEk5Aaw9G4nPImaKa/DP++c6ip6GndM7raNyPagCR+lLl9Brmx
gUj26iJio1MwUTAdBgNVHQ4EFgQUlBjCYscoWzFzQYtOorWG7WatQygwHwYDVR0jBBgwFoAUlBjC
YscoWzFzQYtOorWG7WatQygwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBePGD/
chozBwmT8Zzin2mbPh8QbbwbD/Xmo9ZRF1vceQIhAJh4pKbletWh/mE7Ba66TXsxVtt4XbKZAhc7
jyKm2XCkMYIBdDCCAXACAQEwJDAMMQowCAYDVQQDDAFkAhRsCZfAqak2kNmzXidEmiEa0rhbZjAL
BglghkgBZQMEAgGggeMwFwYJKoZIhvcNAQkDMQoGCCsGAQUFBwwCMBwGCSqGSIb3DQEJBTEPFw0y
NjExMjMxOTA4NDJaMC8GCSqGSIb3DQEJBDEiBCA7cKvKkxZWyIPzwgHnntoE9orvKicTzVAqIb4B
EBnpZzB5BgkqhkiG9w0BCQ8xbDBqMAsGCWCGSAFlAwQBKjALBglghkgBZQMEARYwCwYJYIZIAWUD
BAECMAoGCCqGSIb3DQMHMA4GCCqGSIb3DQMCAgIAgDANBggqhkiG9w0DAgIBQDAHBgUrDgMCBzAN
BggqhkiG9w0DAgIBKDAKBggqhkjOPQQDAgRGMEQCIGPCu0Nqbnx+0JBTBk9eJJiNEdpe9MYDQ0tV
DU4nGwpUAiAyeWqwibpWyKTI9XYx4aGuYET+zb/5uv7BXUUGtdCivw==
"""
OPENSSL_STREAM = """
MIAGCSqGSIb3DQEHAqCAMIACAQMxDTALBglghkgBZQMEAgEwgAYIKwYBBQUHDAKggCSABB4wHDAU
MBICAQEGCCsGAQUFBwcFMQMCAQcwADAAMAAAAAAAAACgggFzMIIBbzCCARWgAwIBAgIUbAmXwKmp
NpDZs14nRJohGtK4W2YwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBZDAgFw0yNjExMjMxOTA3NTha
GA8yMTI2MTAzMDE5MDc1OFowDDEKMAgGA1UEAwwBZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA
BKOIAgU5CwMi8q4h6nBjHOx2hx3ncYSTkBrD0bic8iZopr8M/75zqKnoad0zuto3I9qAJH6UuX0G
ubGBSPbqImKjUzBRMB0GA1UdDgQWBBSUGMJixyhbMXNBi06itYbtZq1DKDAfBgNVHSMEGDAWgBSU
GMJixyhbMXNBi06itYbtZq1DKDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIF48
YP9yGjMHCZPxnOKfaZs+HxBtvBsP9eaj1lEXW9x5AiEAmHikpuV61aH+YTsFrrpNezFW23hdspkC
FzuPIqbZcKQxggF1MIIBcQIBATAkMAwxCjAIBgNVBAMMAWQCFGwJl8CpqTaQ2bNeJ0SaIRrSuFtm
MAsGCWCGSAFlAwQCAaCB4zAXBgkqhkiG9w0BCQMxCgYIKwYBBQUHDAIwHAYJKoZIhvcNAQkFMQ8X
DTI2MTEyMzE5MDg0MlowLwYJKoZIhvcNAQkEMSIEIDtwq8qTFlbIg/PCAeee2gT2iu8qJxPNUCoh
vgEQGelnMHkGCSqGSIb3DQEJDzFsMGowCwYJYIZIAWUDBAEqMAsGCWCGSAFlAwQBFjALBglghkgB
ZQMEAQIwCgYIKoZIhvcNAwcwDgYIKoZIhvcNAwICAgCAMA0GCCqGSIb3DQMCAgFAMAcGBSsOAwIH
MA0GCCqGSIb3DQMCAgEoMAoGCCqGSM49BAMCBEcwRQIhAL3gBohqDWVmH0YwhMJQ61F9vwCoYsxX
Miqc8GK/mKBMAiAmbRhrvkMeb0/VWLSEjdwitOl2PNIzLyERzpIhnEgM6AAAAAAAAA==
"""


class VectorTests:
    """Messages that others have written."""

    @pytest.mark.parametrize("vector", [OPENSSL, OPENSSL_STREAM])
    def test_openssl(self, vector: str) -> None:
        """The signature verifies, and the content is a PKIData."""
        message = read_signed_data(base64.b64decode(vector))
        (signer,) = message.signers
        assert signer.certificate is not None
        verify_signer(message, signer, subject_public_key(signer.certificate))
        assert PKI_DATA == message.content_type
        found = read_pki_data(message.content or b"")
        assert [CONTROLS["transactionId"]] == [
            one.oid for one in found.controls
        ]

    def test_key_as_signer(self) -> None:
        """RFC 5272, section 3.2: a signer without a certificate."""
        message = read_signed_data(signed_by_key(KEY, pki_data()))
        assert (key_id(KEY), None) == (
            message.signers[0].sid,
            message.signers[0].certificate,
        )


class StatusTests:
    """CMCStatusInfoV2 and PKIResponse (sections 4.2.1 and 6.1.1)."""

    @pytest.mark.parametrize("status", sorted(STATUSES))
    def test_other_decoder(self, status: str) -> None:
        """pyasn1 reads each status by its name."""
        made = StatusInfo(status, (1, 4294967295), "text").der()
        found = decoded(made, rfc6402.CMCStatusInfoV2())
        assert status == found["cMCStatus"].namedValues.getName(
            int(found["cMCStatus"])
        )
        assert [1, 4294967295] == [
            int(one["bodyPartID"]) for one in found["bodyList"]
        ]
        assert "text" == str(found["statusString"])

    @pytest.mark.parametrize("failure", FAILURES)
    def test_fail_info(self, failure: str) -> None:
        """pyasn1 reads each CMCFailInfo by its name."""
        made = StatusInfo("failed", (0,), "", failure).der()
        found = decoded(made, rfc6402.CMCStatusInfoV2())
        info = found["otherInfo"]["failInfo"]
        assert failure == info.namedValues.getName(int(info))
        assert not found["statusString"].isValue

    def test_pend_info(self) -> None:
        """pendToken and pendTime, in UTC."""
        when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        made = StatusInfo("pending", (1,), "", "", b"t", when).der()
        found = decoded(made, rfc6402.CMCStatusInfoV2())
        info = found["otherInfo"]["pendInfo"]
        assert (b"t", "20260102030405Z") == (
            bytes(info["pendToken"]),
            str(info["pendTime"]),
        )

    def test_response(self) -> None:
        """Controls only, numbered from 1 on."""
        made = pki_response([("1.2.3", NULL), ("1.2.4", octets(b""))])
        found = decoded(made, rfc6402.PKIResponse())
        assert [(1, "1.2.3"), (2, "1.2.4")] == [
            (int(one["bodyPartID"]), str(one["attrType"]))
            for one in found["controlSequence"]
        ]
        assert (0, 0) == (
            len(found["cmsSequence"]),
            len(found["otherMsgSequence"]),
        )

    def test_names(self) -> None:
        """RFC 5272, table 1, and RFC 6402, section 2.2: 32 controls."""
        assert 32 == len(CONTROLS) == len(NAMES)


class ControlTests:
    """The values of controls."""

    def test_single(self) -> None:
        """One value, no more and no less."""
        assert NULL == single(Control(1, "1.2.3", (NULL,)))
        for values in ((), (NULL, NULL)):
            with pytest.raises(Malformed):
                single(Control(1, "1.2.3", values))

    def test_octets_and_numbers(self) -> None:
        """Content octets, bounded."""
        assert b"ab" == read_octets(octets(b"ab"), 2)
        assert b"\xfb" == read_number(der.integer(-5), 1)
        for reader, value in (
            (read_octets, octets(b"abc")),
            (read_octets, NULL),
            (read_number, der.integer(1 << 20)),
            (read_number, NULL),
        ):
            with pytest.raises(Malformed):
                reader(value, 2)

    def test_identification(self) -> None:
        """A UTF8String that is not empty."""
        assert "\u00e4" == read_identification(utf8("\u00e4"), 2)
        for value in (
            utf8(""),
            utf8("abc"),
            octets(b"a"),
            der.tlv(12, b"\xff"),
        ):
            with pytest.raises(Malformed):
                read_identification(value, 2)

    def test_witness(self) -> None:
        """Right for the same secret and octets, wrong for all else."""
        found = read_witness(witness("secret", b"octets"))
        assert ("sha256", "hmac-sha256") == (found.digest, found.mac.name)
        assert found.verify(b"secret", b"octets")
        assert not found.verify(b"secret", b"other")
        assert not found.verify(b"Secret", b"octets")

    @pytest.mark.parametrize(
        "value",
        [
            NULL,
            der.sequence(),
            der.sequence(SHA256, HMAC_SHA256),
            der.sequence(SHA256, HMAC_SHA256, NULL),
            der.sequence(der.sequence(), HMAC_SHA256, octets(b"")),
            der.sequence(SHA256, der.sequence(), octets(b"")),
        ],
    )
    def test_no_witness(self, value: bytes) -> None:
        """Anything else is malformed."""
        with pytest.raises(Malformed):
            read_witness(value)

    def test_algorithms(self) -> None:
        """What we do not compute is named."""
        md5 = der.sequence(der.oid("1.2.840.113549.2.5"), NULL)
        with pytest.raises(UnsupportedAlgorithm, match="md5"):
            read_witness(witness("s", b"", digest=md5))
        with pytest.raises(UnsupportedAlgorithm, match="HMAC"):
            read_witness(witness("s", b"", mac=SHA256))

    def test_lra_pop_witness(self) -> None:
        """A reference and any number of body parts."""
        value = der.sequence(
            der.integer(0), der.sequence(der.integer(1), der.integer(2))
        )
        assert LraPopWitness(0, (1, 2)) == read_lra_pop_witness(value)
        found = decoded(value, rfc6402.LraPopWitness())
        assert [1, 2] == [int(one) for one in found["bodyIds"]]
        for broken in (
            NULL,
            der.sequence(),
            der.sequence(der.integer(0), NULL),
            der.sequence(NULL, der.sequence()),
            der.sequence(der.integer(0), der.sequence(NULL)),
        ):
            with pytest.raises(Malformed):
                read_lra_pop_witness(broken)

    @pytest.mark.parametrize(
        ("reason", "name"),
        [(0, "unspecified"), (8, "removeFromCRL"), (7, "7")],
    )
    def test_revoke_request(self, reason: int, name: str) -> None:
        """As pyasn1 reads it; the shared secret is in no repr."""
        more = der.tlv(0x18, b"20260102030405Z") + octets(b"s") + utf8("why")
        certificate = self_signed(KEY)
        value = revocation(certificate, reason=reason, more=more)
        theirs = decoded(value, rfc6402.RevokeRequest())
        assert b"s" == bytes(theirs["passphrase"])
        ours = read_revoke_request(value)
        subject = ((NameAttribute("2.5.4.3", "stranger"),),)
        assert RevokeRequest(subject, "7", name, b"s") == ours
        assert "secret" not in repr(ours)
        plain = read_revoke_request(revocation(certificate, serial=-1))
        assert ("-1", None) == (plain.serial, plain.secret)

    def test_longest_secret(self) -> None:
        """RFC 7894, section 3: 255 characters, of four octets in UTF-8."""
        certificate = self_signed(KEY)
        longest = "\N{GRINNING FACE}" * 255
        for text in ("", longest):
            value = revocation(certificate, more=octets(text.encode()))
            assert text.encode() == read_revoke_request(value).secret
        more = octets(longest.encode() + b"x")
        with pytest.raises(Malformed, match="too long"):
            read_revoke_request(revocation(certificate, more=more))

    @pytest.mark.parametrize(
        "broken",
        [
            NULL,
            der.sequence(),
            der.sequence(der.sequence(), der.integer(1)),
            der.sequence(der.sequence(), der.integer(1), der.integer(1)),
            der.sequence(
                der.sequence(), der.integer(1), b"\x0a\x01\x01", NULL
            ),
            der.sequence(
                der.sequence(),
                der.integer(1),
                b"\x0a\x01\x01",
                utf8("a"),
                octets(b""),
            ),
            der.sequence(
                der.sequence(),
                der.integer(1),
                b"\x0a\x01\x01",
                der.tlv(0x18, b"2026"),
            ),
        ],
    )
    def test_no_revoke_request(self, broken: bytes) -> None:
        """Fields of other types, missing or out of place."""
        with pytest.raises(Malformed):
            read_revoke_request(broken)

    @given(st.binary(max_size=60))
    def test_anything(self, octets_of: bytes) -> None:
        """Values that are DER and nothing that they should be."""
        value = der.sequence(
            der.octet_string(octets_of), der.integer(len(octets_of))
        )
        readers: tuple[Any, ...] = (
            read_witness,
            read_lra_pop_witness,
            read_revoke_request,
        )
        for reader in readers:
            with pytest.raises(RequestError):
                reader(value)
