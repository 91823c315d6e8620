# SPDX-License-Identifier: MIT
"""
What all stores do alike: the facts of audit records, search terms, and what
signing, revoking and releasing makes of a certificate.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import evolve

from trstctl.errors import (
    Conflict,
    Malformed,
    Stale,
    Throttled,
    UnknownCertificate,
)
from trstctl.model import (
    CERTIFICATE_HOLD,
    KEY_COMPROMISE,
    REVOCATION_REASONS,
    CertificateRecord,
    CertificateStatus,
    CredentialRecord,
    GeneralName,
    Generation,
    Intent,
    NewRequest,
    OneTimeSecret,
    Outstanding,
    Phase,
    StoredCRL,
)

#: One RDN component of a distinguished name in the text form of RFC 4514.
_COMPONENT = re.compile(r"(?:\\.|[^,+\\])+")
_ESCAPED = re.compile(r"((?:\\[0-9A-Fa-f]{2})+)|\\(.)")

#: What the audit log calls the store when it acts on its own.
STORE_ACTOR = "system:store"


#: Why a key that was revoked as compromised is refused (RFC 5280, 5.3.1).
COMPROMISED = "the key is known to be compromised; make a new one"

#: Why a second request in a transaction is refused.
TRANSACTION_TAKEN = "this transaction is another request's"

#: Seconds after which somebody who has too many of something may try again.
_TOO_MANY_WAIT = 3600

#: How many requests with one transactionID are looked at.
MAX_TRANSACTIONS = 16


def too_many_dialogues() -> Throttled:
    """Return the refusal of one more than somebody may have."""
    return Throttled(
        _TOO_MANY_WAIT, "too many transactions of this party are remembered"
    )


def too_many_held() -> Throttled:
    """Return the refusal of one more that would wait for a person."""
    return Throttled(
        _TOO_MANY_WAIT, "too many requests of this party wait for approval"
    )


def held_together(principal: str) -> tuple[str, str]:
    """
    Return the first and the last principal whose held requests count as one.

    Whoever is anonymous is called by his key, and has as many as he likes.
    """
    kind = principal.partition(":")[0]
    if kind == "anonymous":
        return f"{kind}:", f"{kind};"
    return principal, principal


def _unescape(match: re.Match[str]) -> str:
    """Resolve one escape of RFC 4514, section 2.4."""
    if match[1]:
        octets = bytes.fromhex(match[1].replace("\\", ""))
        return octets.decode("utf-8", "replace")
    return match[2]


def common_names(subject: str) -> list[str]:
    """Return the common names in the text of a distinguished name."""
    found = []
    for component in _COMPONENT.findall(subject):
        attribute = component.lstrip()
        if attribute.startswith("CN="):
            value = attribute[3:]
            if "\\" in value:
                value = _ESCAPED.sub(_unescape, value)
            found.append(value)
    return found


def search_terms(subject: str, names: Sequence[GeneralName]) -> set[str]:
    """Return every text that a listing by name finds the certificate by."""
    terms = {name.value for name in names}
    terms.update(common_names(subject))
    return terms


def request_facts(request: NewRequest, request_id: str) -> dict[str, str]:
    """
    Return the facts of ``request.held`` and the like.

    :param request_id: the id of the row, which an earlier request may have
        made.
    """
    facts = {
        "request": request_id,
        "protocol": request.key.protocol,
        "endpoint": request.endpoint,
        "operation": request.operation,
        "profile": request.profile,
        "profile_version": request.profile_version,
        "subject": request.subject,
        "public_key": request.public_key_fingerprint,
        "request_id": request.request_id,
        "peer": request.peer,
    }
    if request.transaction:
        facts["transaction"] = request.transaction
    if request.secret_id is not None:
        facts["secret"] = request.secret_id
    return facts


def opened_facts(intent: Intent, request_id: str) -> dict[str, str]:
    """Return the facts of ``intent.opened``."""
    facts = request_facts(intent.request, request_id)
    facts["authority"] = intent.authority
    facts["serial"] = intent.serial
    if intent.secret_id is not None:
        facts["secret"] = intent.secret_id
    return facts


def issued_record(
    intent: Intent, certificate: bytes, now: datetime
) -> CertificateRecord:
    """Return what is kept of a certificate that was just signed."""
    request, key = intent.request, intent.request.key
    return CertificateRecord(
        tenant_id=key.tenant_id,
        authority=intent.authority,
        serial=intent.serial,
        subject=request.subject,
        names=request.names,
        profile=request.profile,
        protocol=key.protocol,
        principal=key.principal,
        public_key_fingerprint=request.public_key_fingerprint,
        not_before=intent.not_before,
        not_after=intent.not_after,
        status=CertificateStatus.VALID,
        issued_at=now,
        der=certificate,
        confirm_by=intent.confirm_by,
        revocation_verifier=request.revocation_verifier,
    )


def issued_facts(
    intent: Intent, certificate: bytes, request_id: str
) -> dict[str, str]:
    """Return the facts of ``certificate.issued``."""
    request = intent.request
    return {
        "request": request_id,
        "authority": intent.authority,
        "serial": intent.serial,
        "profile": request.profile,
        "subject": request.subject,
        "names": " ".join([f"{n.kind}:{n.value}" for n in request.names]),
        "not_after": intent.not_after.isoformat(),
        "sha256": hashlib.sha256(certificate).hexdigest(),
        "request_id": request.request_id,
    }


def abandoned_facts(
    request_id: str, authority: str, serial: str, owner: str, reason: str
) -> dict[str, str]:
    """Return the facts of ``intent.abandoned``."""
    return {
        "request": request_id,
        "authority": authority,
        "serial": serial,
        "owner": owner,
        "reason": reason,
    }


def revoked(
    record: CertificateRecord, reason: str, now: datetime
) -> CertificateRecord:
    """
    Return the certificate once it is revoked.

    :returns: ``record`` itself, if it stays what it is.
    :raises Malformed: there is no such reason.
    """
    if reason not in REVOCATION_REASONS:
        raise Malformed("no such revocation reason")
    if record.status is not CertificateStatus.REVOKED:
        return evolve(
            record,
            status=CertificateStatus.REVOKED,
            revoked_at=now,
            revocation_reason=reason,
            confirm_by=None,
        )
    if reason in (CERTIFICATE_HOLD, record.revocation_reason):
        return record
    if reason != KEY_COMPROMISE and (
        record.revocation_reason != CERTIFICATE_HOLD
    ):
        return record  # for good
    return evolve(record, revocation_reason=reason)


def confirmed(record: CertificateRecord) -> CertificateRecord:
    """
    Return the certificate once its client takes it.

    :returns: ``record`` itself, if nobody waits for that.
    :raises Stale: it has been revoked.
    """
    if record.status is CertificateStatus.REVOKED:
        raise Stale("the certificate has been revoked")
    if record.confirm_by is None:
        return record
    return evolve(record, confirm_by=None)


def superseded(record: CertificateRecord, by: str) -> CertificateRecord:
    """
    Return the certificate once another has taken its place.

    :param by: the serial of the other one.
    :returns: ``record`` itself, if it stays what it is.
    """
    if by in {record.serial, record.superseded_by}:
        return record
    changed = evolve(record, superseded_by=by)
    if record.status is CertificateStatus.VALID:
        changed = evolve(changed, status=CertificateStatus.SUPERSEDED)
    return changed


def released(record: CertificateRecord) -> CertificateRecord:
    """
    Return the certificate once it is off hold: valid, or superseded again.

    :returns: ``record`` itself, if it is valid.
    :raises Stale: it is revoked for good, or superseded.
    """
    if record.status is CertificateStatus.VALID:
        return record
    if record.revocation_reason != CERTIFICATE_HOLD:
        raise Stale("only a certificate on hold can be released")
    status = CertificateStatus.VALID
    if record.superseded_by:
        status = CertificateStatus.SUPERSEDED
    return evolve(
        record,
        status=status,
        revoked_at=None,
        revocation_reason="",
    )


def revoked_facts(record: CertificateRecord) -> dict[str, str]:
    """Return the facts of ``certificate.revoked``."""
    return {**released_facts(record), "reason": record.revocation_reason}


def released_facts(record: CertificateRecord) -> dict[str, str]:
    """Return the facts of ``certificate.released``."""
    return {
        "authority": record.authority,
        "serial": record.serial,
        "subject": record.subject,
    }


def superseded_facts(record: CertificateRecord) -> dict[str, str]:
    """Return the facts of ``certificate.superseded``."""
    return {**released_facts(record), "by": record.superseded_by}


def published_facts(crl: StoredCRL) -> dict[str, str]:
    """Return the facts of ``crl.published``."""
    return {
        "authority": crl.authority,
        "scope": crl.scope,
        "number": str(crl.number),
        "entries": str(crl.entries),
    }


#: The phases of which an authority may have one generation at a time.
UNDER_WAY = (Phase.PREPARED, Phase.ACTIVE)

#: Why a second one is refused.
NOT_ALONE = (
    "another generation of this authority is under way, or has this number "
    "or name"
)

#: The steps that there are, and what the audit log calls them.
_STEPS: Mapping[tuple[Phase, Phase], str] = {
    (Phase.PREPARED, Phase.ACTIVE): "generation.activated",
    (Phase.PREPARED, Phase.DROPPED): "generation.dropped",
    (Phase.ACTIVE, Phase.PREPARED): "generation.deactivated",
    (Phase.ACTIVE, Phase.FINISHED): "generation.finished",
}


def advanced(
    found: Generation | None, expected: Phase, phase: Phase, now: datetime
) -> tuple[Generation, str]:
    """
    Return a generation in its next phase, and the audit event.

    :raises UnknownCertificate: there is none.
    :raises Stale: it is not where it should be, or cannot go there.
    """
    if found is None:
        raise UnknownCertificate("there is no such generation")
    event = _STEPS.get((expected, phase))
    if found.phase is not expected or event is None:
        raise Stale(f"the generation is {found.phase.value} by now")
    changed = evolve(found, phase=phase, stepped_at=now)
    if phase is Phase.ACTIVE:
        return evolve(changed, activated_at=now), event
    if phase is Phase.PREPARED:
        return evolve(changed, activated_at=None), event
    return changed, event


def require_vacated(name: str, left: Outstanding) -> None:
    """
    Judge whether certificates of a generation need count no more.

    :raises Conflict: some are valid, or are being signed.
    """
    if left.valid:
        raise Conflict(
            f"{left.valid} certificates of {name} are valid, and would count "
            "no more"
        )


def generation_facts(generation: Generation) -> dict[str, str]:
    """Return the facts of what becomes of a generation."""
    return {
        "authority": generation.authority,
        "generation": generation.name,
        "sha256": hashlib.sha256(generation.chain[0]).hexdigest(),
    }


def credential_facts(record: CredentialRecord) -> dict[str, str]:
    """Return the facts of ``credential.added``."""
    return {
        "kind": record.kind,
        "name": record.name,
        "names": " ".join(record.names),
        "profiles": " ".join(record.profiles),
        "expires": record.expires_at.isoformat() if record.expires_at else "",
    }


def secret_facts(secret: OneTimeSecret) -> dict[str, str]:
    """Return the facts of ``secret.added``; never its digest."""
    return {
        "secret": secret.id,
        "profile": secret.profile,
        "names": " ".join(secret.names),
        "key": secret.key_fingerprint,
        "expires": secret.expires_at.isoformat(),
        "protocol": secret.protocol,
        "uses": str(secret.uses),
        "device": secret.device,
        "subject": secret.subject,
        "alternative_names": "any"
        if secret.alternative_names is None
        else " ".join(secret.alternative_names),
    }
