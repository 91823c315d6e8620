# SPDX-License-Identifier: MIT
"""
genm and genp: what a client may ask about the PKI (RFC 9483, section 4.3).

An empty genm asks for whatever there is (RFC 9810, appendix D.5).  What is
not served is named in unsupportedOIDs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from trstctl.errors import Malformed
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import CSRWishes, Name, NameAttribute, StoredCRL
from trstctl.model import RootUpdate as Rollover
from trstctl.pkix import cmp_general as genp
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp_bodies import read_gen_msg
from trstctl.pkix.cmp_itav import InfoTypeAndValue
from trstctl.pkix.cmp_mac import split_identifier
from trstctl.pkix.cmp_responses import gen_rep
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.pkix.names import names_match
from trstctl.protocols.cmp.exchange import Exchange, Reply
from trstctl.protocols.cmp.refusals import refuse, restate
from trstctl.protocols.cmp.settings import RootUpdate, Served

#: What an empty genm is answered with.
EVERYTHING = (
    "caCerts",
    "signKeyPairTypes",
    "encKeyPairTypes",
    "preferredSymmAlg",
    "certReqTemplate",
    "currentCRL",
)

_AES_256_CBC = der.sequence(der.oid("2.16.840.1.101.3.4.1.42"))
_LANGUAGE = "en"
_RSA_BITS = 2048

_Answer = Callable[[bytes], Awaitable[InfoTypeAndValue]]


class GeneralMessages:
    """Answers general messages, at one endpoint."""

    def __init__(self, ra: IRegistrationAuthority, served: Served) -> None:
        self._ra = ra
        self._served = served
        self._endpoint = served.endpoint
        self._update = served.root_update
        # OpenSSL can ask for a language in no other way than without one.
        self._values = dict(genp.REQUEST_VALUES)
        if not served.strict:
            self._values["suppLangTags"] = None
        self._answers: Mapping[str, _Answer] = {
            "caCerts": self._ca_certs,
            "rootCaCert": self._root_update,
            "certReqTemplate": self._template,
            "currentCRL": self._current_crl,
            "crlStatusList": self._newer_crls,
            "signKeyPairTypes": self._signature_keys,
            "encKeyPairTypes": self._encryption_keys,
            "preferredSymmAlg": self._cipher,
            "caProtEncCert": self._encryption_certificate,
            "keyPairParamReq": self._parameters,
            "suppLangTags": self._language,
        }

    async def answer(self, asked: Exchange) -> Reply:
        """Tell what is asked for, in that order."""
        items = read_gen_msg(asked.message.body.value)
        _check_once(items)
        self._check_profiles(
            asked.message.header.general_info.cert_profiles,
            [item.name for item in items] or ["certReqTemplate"],
        )
        found: list[InfoTypeAndValue] = []
        unknown: list[str] = []
        for name, value in [(item.name, item.value) for item in items] or [
            (name, None) for name in EVERYTHING
        ]:
            self._check_value(name, value)
            if name not in self._answers:
                unknown.append(
                    next(item.oid for item in items if item.name == name)
                )
                continue
            try:
                found.append(await self._answers[name](value or b""))
            except Malformed as error:
                if "code" in error.facts:  # a refusal already
                    raise
                raise restate(error, "badRequest", "info-value") from None
        if unknown:
            found.append(genp.unsupported_oids(unknown))
        return Reply(
            gen_rep(found),
            facts={"decision": "found", "principal": asked.known.actor},
        )

    def _check_profiles(
        self, profiles: Sequence[str], names: Sequence[str]
    ) -> None:
        """
        Refuse to tell the template of another profile than is asked for.

        RFC 9810, section 5.1.1.4: no more of them than types, in their order.
        """
        if len(profiles) > len(names):
            raise refuse(
                "badRequest",
                "cert-profile-count",
                "there are more certProfile names than types that are asked "
                "for",
            )
        for profile, name in zip(profiles, names, strict=False):
            if name == "certReqTemplate" and not self._served.offers(profile):
                raise refuse(
                    "badRequest",
                    "cert-profile",
                    "this endpoint does not offer the profile of certProfile",
                )

    def _check_value(self, name: str, value: bytes | None) -> None:
        """Refuse a value where none may be, and the reverse."""
        expected = self._values.get(name)
        if expected is not None and expected != (value is not None):
            raise refuse(
                "badRequest",
                "info-value",
                f"{name} is asked for {'with' if expected else 'without'} a value",
            )

    # --- certificates -------------------------------------------------------

    async def _ca_certs(self, _: bytes) -> InfoTypeAndValue:
        """Tell the certificates of the CAs (RFC 9483, section 4.3.1)."""
        return genp.ca_certs(self._ra.ca_certificates(self._endpoint))

    async def _root_update(self, value: bytes) -> InfoTypeAndValue:
        """Tell the root that follows the client's (section 4.3.2)."""
        if value:
            genp.read_root_ca_cert(value)
        now = self._ra.succession(self._endpoint)
        update: RootUpdate | Rollover | None = self._update
        if update is None:
            # What the rollover of the authority's key brings by itself.
            update = now.update
            current = update.old if update is not None else b""
        else:
            current = root_of(now.certificates)
        if update is None or value not in {b"", current}:
            return genp.root_ca_key_update(None)
        return genp.root_ca_key_update(
            update.new, update.new_with_old, update.old_with_new
        )

    # --- requests -----------------------------------------------------------

    def _wishes(self) -> CSRWishes:
        """Return what the profile wishes to see."""
        return self._ra.csr_attributes(self._endpoint)

    async def _template(self, _: bytes) -> InfoTypeAndValue:
        """Tell what a request should look like (section 4.3.3)."""
        wishes = self._wishes()
        fixed = dict(wishes.fixed)
        # What is to be filled in is empty.
        subject: Name = tuple(
            (NameAttribute(oid, fixed.get(oid, "")),)
            for oid in dict.fromkeys((*wishes.subject_attributes, *fixed))
        )
        algorithms = [
            genp.KEY_ALGORITHMS[name]
            for name in wishes.algorithms
            if name != "rsa" and name in genp.KEY_ALGORITHMS
        ]
        return genp.cert_req_template(
            CertTemplate(
                subject=subject or None, extensions=wishes.issued or None
            ),
            algorithms,
            (_RSA_BITS,) if "rsa" in wishes.algorithms else (),
        )

    async def _signature_keys(self, _: bytes) -> InfoTypeAndValue:
        """Tell which signature keys are certified."""
        return genp.sign_key_pair_types(
            [
                genp.KEY_ALGORITHMS[name]
                for name in self._wishes().algorithms
                if name in genp.KEY_ALGORITHMS
            ]
        )

    async def _encryption_keys(self, _: bytes) -> InfoTypeAndValue:
        """Tell which encryption keys are: those that can also sign."""
        rsa = "rsa" in self._wishes().algorithms
        return genp.enc_key_pair_types(
            (genp.KEY_ALGORITHMS["rsa"],) if rsa else ()
        )

    async def _parameters(self, value: bytes) -> InfoTypeAndValue:
        """Tell the parameters to be used with an algorithm."""
        oid = genp.read_algorithm(value)
        for name in self._wishes().algorithms:
            identifier = genp.KEY_ALGORITHMS.get(name, b"")
            if identifier and split_identifier(identifier)[0] == oid:
                return genp.key_pair_param_rep(identifier)
        return genp.key_pair_param_rep(None)

    async def _cipher(self, _: bytes) -> InfoTypeAndValue:
        """Tell what to encrypt with."""
        return genp.preferred_symm_alg(_AES_256_CBC)

    async def _encryption_certificate(self, _: bytes) -> InfoTypeAndValue:
        """Tell that nothing is to be encrypted to us."""
        return genp.ca_prot_enc_cert(None)

    async def _language(self, value: bytes) -> InfoTypeAndValue:
        """Tell which language we have (RFC 9810, section 5.3.19.13)."""
        # A language is that of its regions, too (RFC 4647, section 3.4).
        if value and not any(
            tag.partition("-")[0].lower() == _LANGUAGE
            for tag in genp.read_language_tags(value)
        ):
            raise refuse(
                "badRequest",
                "language",
                f"none of these languages is spoken here; {_LANGUAGE} is",
            )
        return genp.supp_lang_tags(_LANGUAGE)

    # --- revocation ---------------------------------------------------------

    async def _crl(self, authority: str = "") -> StoredCRL:
        """Return the CRL that is in force."""
        serving = self._ra.serving(self._endpoint)
        crl: StoredCRL = await self._ra.revocation.crl(
            authority or serving.authority, ""
        )
        return crl

    async def _current_crl(self, _: bytes) -> InfoTypeAndValue:
        """Tell the newest CRL."""
        return genp.current_crl((await self._crl()).der)

    async def _newer_crls(self, value: bytes) -> InfoTypeAndValue:
        """Tell our CRL, if the client has none or an older one (4.3.4)."""
        now = self._ra.succession(self._endpoint)
        all_crls = [
            await self._crl(name) for name in (now.authority, *now.keyed)
        ]
        issuer = read_certificate(now.certificates[0]).subject
        for status in genp.read_crl_status_list(value):
            # A distribution point without an issuer is taken for ours.
            ours = not status.issuers or any(
                names_match(name, issuer) for name in status.issuers
            )
            newer = [
                crl.der
                for crl in all_crls
                if status.this_update is None
                or status.this_update < crl.this_update.replace(microsecond=0)
            ]
            if ours and newer:
                return genp.crls(newer)
        return genp.crls(())


def _check_once(items: Sequence[InfoTypeAndValue]) -> None:
    """
    Refuse to tell the same many times: a CRL may have megabytes.

    Algorithms are asked for one by one.
    """
    names = [item.name for item in items if item.name != "keyPairParamReq"]
    if len(set(names)) < len(names):
        raise refuse("badRequest", "info-twice", "each type is asked for once")


def root_of(certificates: tuple[bytes, ...]) -> bytes:
    """Return the root of the chain that comes first."""
    read = ((each, read_certificate(each)) for each in certificates)
    return next(
        (each for each, facts in read if facts.subject == facts.issuer),
        certificates[-1],
    )
