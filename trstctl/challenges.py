# SPDX-License-Identifier: MIT
"""
Challenges of our own: the tokens that devices put into a challengePassword.

Theory of operation
===================

A challenge is 55 characters, ``A`` to ``Z`` and ``2`` to ``7``, which fit
every string type and every device's keypad.  In octets:

====== ===================================================================
octets what
====== ===================================================================
1      id of the key
5      when it ends, in seconds since 1970
12     its public id
16     HMAC-SHA-256, cut to 128 bits
====== ===================================================================

C-1  *Bound.*  The HMAC is over all that the challenge is for: purpose,
     tenant, protocol, profile, device, subject, names, key, uses, end and
     id, each with its length.  These are kept in the store's row of the
     secret, and the HMAC is made over them again: a row that somebody has
     changed or slipped in is worth nothing without the key.
C-2  *Used up by the store*, with the intent, as every single-use secret.
C-3  *Unknown equals wrong.*  Whatever is wrong, the error is the same, and
     an HMAC has been made and a row looked for.
C-4  *Wrong ones are throttled* by address and by the device that is named
     with them; a right one, which nobody can guess, passes that.  Where a
     key has to be derived to tell, who has failed too often is not looked
     at: neither with the reference that he has failed with at his address,
     nor, ten times later, with any.  Nobody is locked out from elsewhere,
     and whether there is such a secret has not been asked by then.
C-5  *Keys can be replaced.*  The newest makes challenges; the older ones
     prove them until they are removed.  Every process reads the file again
     when it has changed.
C-6  *A renewal needs none*, and says nothing by the one that it was enrolled
     with, however old.  One of another device, subject, set of names or
     profile is an alarm: whoever renews has got hold of it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from attrs import field, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from trstctl.backends.attempts import device_buckets, peer_bucket
from trstctl.backends.keyfiles import (
    KeyFileError,
    private_directory,
    read_secret_file,
    replace_file,
)
from trstctl.backends.passwords import secret_digest
from trstctl.backends.throttle import Throttle
from trstctl.errors import (
    ChallengeRejected,
    RequestError,
    Throttled,
    Unavailable,
)
from trstctl.interfaces import IChallengeTokens, IStore
from trstctl.minting import (
    CHALLENGE_ID_OCTETS,
    check_secret,
    principal_of,
)
from trstctl.model import (
    Endpoint,
    EnrollmentRequest,
    Issued,
    OneTimeSecret,
    Principal,
)
from trstctl.own_keys import CREDENTIALS_DIRECTORY, stamp_of
from trstctl.pkix.names import (
    COMMON_NAME,
    SERIAL_NUMBER,
    attribute_values,
    name_text,
)
from trstctl.policy.binding import canonical
from trstctl.shield import to_its_end

#: Where the keys are, below the directory of the gateway's own keys.
KEYS_FILE = "challenge-keys"

#: More keys than this are not kept; the oldest goes first.
MAX_KEYS = 16

_LINE = re.compile(r"([0-9]{1,3}) ([0-9a-f]{64})")
_LAST_ID = 255

_PURPOSE = "trstctl challenge 1"
_KEY_OCTETS = 32
_MAC_OCTETS = 16
_END = 1 + 5
_MAC = _END + CHALLENGE_ID_OCTETS
_OCTETS = _MAC + _MAC_OCTETS

#: Characters of a challenge; and of what may stand for one, since people
#: type spaces and hyphens into it.
LENGTH = (_OCTETS * 8 + 4) // 5
_LONGEST = 255

#: How many devices behind one address may fail before all of them wait.
_DEVICES = 10

#: When a decoy ends.
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

#: What an unknown key is replaced by, so that an HMAC is made all the same.
_DECOY_KEY = bytes(_KEY_OCTETS)


# --- the keys ---------------------------------------------------------------


class KeyRing:
    """
    The keys in one file, each a line of its id and 64 hexadecimal digits.

    :param path: made when a key is first asked for.
    :param random_bytes: where keys come from.
    """

    def __init__(
        self, path: Path, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._path = path
        self._random_bytes = random_bytes
        self._stamp: tuple[int, int] | None = None
        self._keys: Mapping[int, bytes] = {}

    def keys(self) -> Mapping[int, bytes]:
        """
        Return the keys by their ids, the oldest first; make one if need be.

        :raises KeyFileError: the file cannot be used; the text says why.
        :raises OSError: it cannot be made.
        """
        stamp = stamp_of(self._path)
        if stamp == (0, 0):
            self._found()
            stamp = stamp_of(self._path)
        if stamp != self._stamp:
            self._keys = read_keys(self._path)
            self._stamp = stamp
        return self._keys

    def rotate(self, *, drop: bool = False) -> int:
        """
        Add a key, with which challenges are made from now on.

        :param drop: remove all others: no challenge that is out is good any
            more.
        :returns: its id.
        :raises KeyFileError: the file cannot be used.
        :raises OSError: it cannot be written.
        """
        keys = dict(self.keys())
        number = next(
            one % 256
            for one in range(next(reversed(keys)) + 1, 512)
            if one % 256 not in keys
        )
        if drop:
            keys.clear()
        keys[number] = self._random_bytes(_KEY_OCTETS)
        kept = list(keys.items())[-MAX_KEYS:]
        replace_file(self._path, _as_text(dict(kept)), 0o600)
        return number

    def _found(self) -> None:
        """Make the file with a first key, unless another process has."""
        private_directory(self._path.parent)
        draft = self._path.with_name(
            f".{self._path.name}.{self._random_bytes(8).hex()}"
        )
        key = self._random_bytes(_KEY_OCTETS)
        replace_file(draft, _as_text({1: key}), 0o600)
        try:
            # A link is made wholly, and never in the place of another.
            os.link(draft, self._path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()


def read_keys(path: Path) -> Mapping[int, bytes]:
    """
    Return the keys in a file, by their ids, the oldest first.

    :raises KeyFileError: it cannot be used; the text says why.
    """
    text = read_secret_file(path).decode("ascii", "replace")
    lines = [_LINE.fullmatch(line) for line in text.splitlines()]
    keys = {
        int(line[1]): bytes.fromhex(line[2])
        for line in lines
        if line is not None
    }
    if None in lines or not keys or max(keys) > _LAST_ID:
        raise KeyFileError(
            f"{path}: each line must be a number and 64 hexadecimal digits; "
            "restore the file, or remove it, which ends every challenge that "
            "is out"
        )
    return keys


def key_ring(state: Path, random_bytes: Callable[[int], bytes]) -> KeyRing:
    """Return the keys of a state directory."""
    return KeyRing(state / CREDENTIALS_DIRECTORY / KEYS_FILE, random_bytes)


def _as_text(keys: Mapping[int, bytes]) -> bytes:
    """Return the content of the file."""
    lines = [f"{number} {key.hex()}\n" for number, key in keys.items()]
    return "".join(lines).encode("ascii")


# --- the text ---------------------------------------------------------------


@frozen
class _Parts:
    """A challenge that was taken apart."""

    key_id: int
    end: int
    secret_id: str
    mac: bytes = field(repr=False)


def _parts(text: str) -> _Parts | None:
    """Take a challenge apart, however it was typed; ``None``: it is none."""
    if len(text) > _LONGEST:
        return None
    plain = text.replace(" ", "").replace("-", "").upper()
    if len(plain) != LENGTH:
        return None
    try:
        octets = base64.b32decode(plain + "=" * (-LENGTH % 8))
    except (binascii.Error, ValueError):
        return None
    if _as_base32(octets) != plain:
        return None  # bits at its end that mean nothing
    return _Parts(
        octets[0],
        int.from_bytes(octets[1:_END], "big"),
        octets[_END:_MAC].hex(),
        octets[_MAC:],
    )


def _as_base32(octets: bytes) -> str:
    """Return octets in the alphabet of RFC 4648, section 6."""
    return base64.b32encode(octets).decode("ascii").rstrip("=")


def _end_of(record: OneTimeSecret) -> int:
    """Return the second in which a record ends."""
    return int(record.expires_at.timestamp())


def _mac(key: bytes, record: OneTimeSecret) -> bytes:
    """Return the HMAC over all that a challenge is for (C-1)."""
    names = record.alternative_names
    parts = (
        _PURPOSE,
        record.tenant_id,
        record.protocol,
        record.profile,
        record.device,
        record.subject,
        "any" if names is None else str(len(names)),
        *sorted(names or ()),
        str(len(record.names)),
        *record.names,
        record.key_fingerprint,
        str(record.uses),
        str(_end_of(record)),
        record.id,
    )
    octets = [part.encode("utf-8") for part in parts]
    framed = b"".join(b"%d:%s" % (len(one), one) for one in octets)
    return hmac.digest(key, framed, "sha256")[:_MAC_OCTETS]


def texts_under(
    keys: Mapping[int, bytes], record: OneTimeSecret
) -> Iterator[str]:
    """Yield the challenge of a record under each key, the newest first."""
    for number, key in reversed(list(keys.items())):
        octets = (
            bytes([number])
            + _end_of(record).to_bytes(5, "big")
            + bytes.fromhex(record.id)
            + _mac(key, record)
        )
        yield _as_base32(octets)


# --- the gate ---------------------------------------------------------------


@implementer(IChallengeTokens)
class ChallengeTokens:
    """
    Makes challenges, and judges them.

    :param keys: returns the keys of this moment, such as
        :meth:`KeyRing.keys`.
    :param clock: the monotonic clock.
    :param failures: wrong challenges allowed a minute, by address and by
        device.
    """

    renewals = False

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        keys: Callable[[], Mapping[int, bytes]],
        clock: IReactorTime,
        failures: int = 10,
    ) -> None:
        self._store = store
        self._read_keys = keys
        self._throttle = Throttle(clock, failures)
        self._addresses = Throttle(clock, failures * _DEVICES)

    def texts(self, record: OneTimeSecret) -> Iterator[str]:
        """Yield the challenge of a record under each key, newest first."""
        return texts_under(self._keys(), record)

    def admit(
        self, request: EnrollmentRequest, challenge: str, now: datetime
    ) -> Deferred[Principal]:
        """Judge a challenge; see the interface."""
        return Deferred.fromCoroutine(self._admit(request, challenge, now))

    async def _admit(
        self, request: EnrollmentRequest, challenge: str, now: datetime
    ) -> Principal:
        """Return for whom a challenge speaks (C-3)."""
        keys = self._keys()
        parts = _parts(challenge)
        found = await self._store.find_secret_by_id(
            request.endpoint.tenant_id, parts.secret_id if parts else ""
        )
        record = found or _decoy(request.endpoint, now)
        key = keys.get(parts.key_id) if parts else None
        mac = _mac(key or _DECOY_KEY, record)
        right = parts is not None and hmac.compare_digest(mac, parts.mac)
        if (
            not right
            or parts is None
            or key is None
            or found is None
            or parts.end != _end_of(record)
            or record.revoked_at is not None
            or record.protocol != request.endpoint.protocol
            or record.profile != request.endpoint.profile
        ):
            self._failed(request)
            error = ChallengeRejected()
            if right and found is not None:
                # Ours, and out of place: the log may name it.
                error.facts["principal"] = f"token:{record.id}"
            raise error
        check_secret(record, request.wanted.public_key.fingerprint, now)
        return principal_of(record)

    def check_renewal(
        self, request: EnrollmentRequest, challenge: str
    ) -> Deferred[None]:
        """Refuse the challenge of another; see the interface (C-6)."""

        async def check() -> None:
            parts = _parts(challenge)
            if parts is None:
                return
            try:
                key = self._keys().get(parts.key_id)
            except Unavailable:
                return  # the log has it; the certificate proves enough
            record = await self._store.find_secret_by_id(
                request.endpoint.tenant_id, parts.secret_id
            )
            if (
                key is None
                or record is None
                or not hmac.compare_digest(_mac(key, record), parts.mac)
                or _is_for(record, request)
            ):
                return
            error = ChallengeRejected(misused=True)
            error.facts["principal"] = f"token:{record.id}"
            raise error

        return Deferred.fromCoroutine(check())

    def prove(
        self,
        endpoint: Endpoint,
        reference: str,
        peer: str,
        knows: Callable[[str], Awaitable[bool]],
        *,
        costly: bool,
    ) -> Deferred[tuple[OneTimeSecret, str]]:
        """Return the secret that a message was made with."""
        bucket = peer_bucket(peer)
        named = f"{bucket} {endpoint.tenant_id} {reference[:_LONGEST]}"
        # Before the store is asked whether there is such a secret (C-4).
        wait = max(
            self._addresses.wait(bucket),
            self._throttle.wait(*((named, bucket) if costly else (named,))),
        )
        if wait:
            return fail(Throttled(wait))
        # Who leaves before he is told is counted all the same.
        return to_its_end(
            self._prove(endpoint, reference, (bucket, named), knows)
        )

    async def _prove(
        self,
        endpoint: Endpoint,
        reference: str,
        buckets: tuple[str, str],
        knows: Callable[[str], Awaitable[bool]],
    ) -> tuple[OneTimeSecret, str]:
        """Try the text of a record, or of a decoy, under each key (C-3)."""
        bucket, named = buckets
        keys = self._keys()
        found = await self._store.find_secret_by_id(
            endpoint.tenant_id, reference[:_LONGEST]
        )
        if found is not None and (
            found.revoked_at is not None
            or found.protocol != endpoint.protocol
            or found.profile != endpoint.profile
        ):
            found = None
        record = found or _decoy(endpoint, _NEVER)
        right = ""
        for text in texts_under(keys, record):
            if await knows(text):
                right = text
        if found is None or not right:
            self._addresses.failed(bucket)
            self._throttle.failed(named)
            self._throttled(bucket)
            raise ChallengeRejected
        return found, right

    def issued(
        self,
        request: EnrollmentRequest,
        principal: Principal,
        outcome: Issued,
    ) -> Deferred[None]:
        """Nothing is left to do: the store has used it up (C-2)."""
        return succeed(None)

    def refused(
        self, request: EnrollmentRequest, error: RequestError
    ) -> Deferred[None]:
        """Nothing is left to do: the store has kept it."""
        return succeed(None)

    def _failed(self, request: EnrollmentRequest) -> None:
        """Count a wrong challenge, unless there were too many (C-4)."""
        self._throttled(peer_bucket(request.peer), *device_buckets(request))

    def _throttled(self, *buckets: str) -> None:
        """Count a failure for each bucket, unless there were too many."""
        wait = self._throttle.wait(*buckets)
        if wait:
            raise Throttled(wait)
        self._throttle.failed(*buckets)

    def _keys(self) -> Mapping[int, bytes]:
        """Return the keys, or say in the log why there are none."""
        try:
            return self._read_keys()
        except (KeyFileError, OSError) as error:
            self._log.error(
                "the keys of challenges cannot be used: {reason}",
                event="challenge.keys.failed",
                reason=str(error),
            )
            raise Unavailable from error


def _is_for(record: OneTimeSecret, request: EnrollmentRequest) -> bool:
    """
    Tell whether a challenge is for what a renewal wants.

    Letter case does not count: the profile has not judged the names yet.
    """
    wanted, names = request.wanted, record.alternative_names
    named = {
        value.casefold()
        for oid in (COMMON_NAME, SERIAL_NUMBER)
        for value in attribute_values(wanted.subject, oid)
    }
    subject = name_text(wanted.subject).casefold()
    return (
        record.profile == request.endpoint.profile
        and record.device.casefold() in {"", *named}
        and record.subject.casefold() in {"", subject}
        and (
            names is None
            or {one.casefold() for one in names}
            == {str(canonical(one)).casefold() for one in wanted.names}
        )
    )


def _decoy(endpoint: Endpoint, now: datetime) -> OneTimeSecret:
    """Return a record for an HMAC that nobody looks at."""
    return OneTimeSecret(
        tenant_id=endpoint.tenant_id,
        id=CHALLENGE_ID_OCTETS * "00",
        digest=secret_digest(""),
        profile=endpoint.profile,
        names=(),
        created_at=now,
        expires_at=now,
        protocol=endpoint.protocol,
    )
