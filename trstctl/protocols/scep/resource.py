# SPDX-License-Identifier: MIT
"""
SCEP over HTTP: connects the codec and the registration authority.

``/scep[/<name>][/pkiclient.exe]`` and ``/cgi-bin/pkiclient.exe`` (RFC 8894,
section 4.1), with and without TLS: messages protect themselves.

Theory of operation
===================

S-1  *A message that can be read is answered by a message*, signed, with HTTP
     200; what cannot be read is HTTP 400 with one fixed text.  Only a
     service that cannot answer at all says so in HTTP.
S-2  *Algorithms first.*  Nothing is verified or decrypted that the endpoint
     does not advertise; the signer's key is judged before its signature.
S-3  *No oracle.*  Whatever goes wrong from the private key on until the
     certification request is proven is the same badMessageCheck, after the
     same work (RFC 3218); a wrong content key becomes a random one.
S-4  *Encrypted to the signer only*, never to other certificates that the
     message carries.
S-5  *Default deny.*  A message type that is not listed is refused, and so is
     a content that is not what its type says (section 3.2.1.2).
S-6  *Who signs decides what it is*: the key to be certified, an enrollment,
     for which the gate is asked; a certificate of ours, a renewal, judged
     as everywhere.  Nobody else enrolls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen
from twisted.logger import Logger

from trstctl import errors
from trstctl.errors import (
    Malformed,
    MessageCheckFailed,
    NotAuthorized,
    RequestError,
    Throttled,
    TrstctlError,
    UnknownCertificate,
    UnsupportedAlgorithm,
)
from trstctl.interfaces import IMessageCredential, IRegistrationAuthority
from trstctl.model import (
    CertificateRequest,
    Challenge,
    ClientCertificate,
    Credential,
    Endpoint,
    EnrollmentRequest,
    Issued,
    Operation,
    Pending,
    PollRequest,
    Purpose,
)
from trstctl.pkix.cms import certs_only, read_issuer_and_serial
from trstctl.pkix.csr import read_csr, verify_proof
from trstctl.pkix.enveloped import Enveloped, read_enveloped
from trstctl.pkix.enveloping import envelope_for
from trstctl.policy.keys import KeyRules, check_key
from trstctl.protocols.scep import codec
from trstctl.protocols.scep.codec import Answer, PKIMessage
from trstctl.protocols.scep.settings import (
    SUFFIX,
    SCEPSettings,
    Served,
    all_served,
)
from trstctl.settings import ProtocolSettings
from trstctl.web import (
    Answered,
    HTTPRequest,
    HTTPResponse,
    ProtocolResource,
)

#: What failInfo says: a row for every refusal of the tree (RFC 8894,
#: section 3.2.1.4).
FAIL_INFO: Mapping[type[RequestError], str] = {
    errors.Malformed: "badRequest",
    errors.MessageCheckFailed: "badMessageCheck",
    errors.UnsupportedAlgorithm: "badAlg",
    errors.TooLarge: "badRequest",
    errors.UnsupportedMediaType: "badRequest",
    errors.NotAuthenticated: "badRequest",
    errors.Throttled: "badRequest",
    errors.NotAuthorized: "badRequest",
    errors.ChallengeRejected: "badRequest",
    errors.ProofOfPossessionFailed: "badMessageCheck",
    errors.PolicyViolation: "badRequest",
    errors.UnknownCertificate: "badCertId",
    errors.Replayed: "badRequest",
    errors.Conflict: "badRequest",
    errors.Stale: "badRequest",
}

_PKI_MESSAGE = "application/x-pki-message"

#: What a body that is no message is answered: always the same.
_UNREADABLE = Malformed("not a SCEP message")

_LEAST_KEY = KeyRules(frozenset(), rsa_prime_test=False)
