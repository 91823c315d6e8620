# SPDX-License-Identifier: MIT
"""
Making the next generation of an authority: keys, certificates, files.

Everything is made in memory first; then the files are written, the private
keys readable for their owner only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)

from trstctl.authorities import is_at_hand, key_place
from trstctl.backends.keyfiles import (
    private_directory,
    read_certificates,
    read_private_key,
    replace_file,
    write_private_key,
)
from trstctl.ca.ceremony import check_chain, generate_key, public_octets
from trstctl.ca.chain import UnfitAuthority
from trstctl.ca.rollover import (
    check_links,
    is_same_subject,
    key_kind,
    link_roots,
    renew_issuing,
    renew_root,
    renewal_csr,
)
from trstctl.ca.succession import base_of
from trstctl.cli.faults import Refused
from trstctl.config.model import Configuration
from trstctl.founding import CA_DIRECTORY, load_chain, write_certificates
from trstctl.model import Generation, Phase
from trstctl.pkix.certificate import read_certificate

_Key = CertificateIssuerPrivateKeyTypes


@frozen
class Present:
    """
    The generation that the next one takes the place of.

    :ivar key: reference to its private key.
    """

    name: str
    chain: tuple[bytes, ...]
    key: str


def present_of(
    config: Configuration, authority: str, generations: Sequence[Generation]
) -> Present:
    """Return the generation of an authority that others follow."""
    settings = config.authorities[authority]
    name = base_of(authority, generations)
    for one in generations:
        if one.name == name:
            return Present(name, one.chain, key_place(one.key, config.state))
    return Present(name, load_chain(settings), settings.key)


@frozen
class Files:
    """Where the files of a generation are."""

    directory: Path
    name: str

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.directory / f"{self.name}.key"

    @property
    def chain(self) -> Path:
        """Its certificates: its own first, the root last."""
        return self.directory / f"{self.name}.pem"

    @property
    def root_key(self) -> Path:
        """The private key of its root, if that is new, too."""
        return self.directory / f"{self.name}-root.key"

    @property
    def root(self) -> Path:
        """Its root, if that is new, too."""
        return self.directory / f"{self.name}-root.pem"

    @property
    def links(self) -> Path:
        """OldWithNew and NewWithOld."""
        return self.directory / f"{self.name}-links.pem"


class Maker:
    """
    Makes the next generation of an authority.

    :param passphrase: of the key above it, and of a new root's; secret.
    """

    def __init__(
        self,
        config: Configuration,
        authority: str,
        generations: Sequence[Generation],
        now: datetime,
        random_bytes: Callable[[int], bytes],
        own_passphrase: bytes | None,
        passphrase: bytes | None,
    ) -> None:
        self.present = present_of(config, authority, generations)
        numbers = [
            one.number for one in generations if one.authority == authority
        ]
        self.authority = authority
        self._number = max(numbers, default=1) + 1
        self.name = f"{authority}-{self._number}"
        if self.name in config.authorities:
            raise Refused(
                f"{self.name} is an authority of the configuration, and would "
                "be the new key's name; give that one another name"
            )
        self.files = Files(config.state / CA_DIRECTORY, self.name)
        self._now = now
        self._random_bytes = random_bytes
        self._own_passphrase = own_passphrase
        self.passphrase = passphrase

    def require_new(self) -> None:
        """
        Refuse to begin where a key is waiting for its certificate.

        :raises Refused: there is one.
        """
        if self.files.key.exists():
            raise Refused(
                f"{self.files.key} exists: give what the root has signed for "
                "it by --certificate, or remove it to begin anew"
            )

    def request(self, key_type: str | None, target: Path) -> None:
        """Make a key, and a request for an offline root."""
        old = self.present.chain[0]
        key = self._new_key(key_type, old)
        request = renewal_csr(old, key)
        self._write_key(self.files.key, key, self._own_passphrase)
        replace_file(target, request, 0o644)

    def self_signed(self, key_type: str | None, old_key: _Key) -> Generation:
        """Make the next key of an authority that is its own root."""
        (old,) = self.present.chain
        key = self._new_key(key_type, old)
        new = renew_root(old, key, self._now, self._random_bytes)
        links = link_roots(old, old_key, new, key, self._random_bytes)
        made = self._made((new,), key, links)
        self._write_key(self.files.key, key, self._own_passphrase)
        return self._written(made)

    def below_same(self, key_type: str | None, above_key: _Key) -> Generation:
        """Make the next key below the CA that certified the present one."""
        old, *above = self.present.chain
        key = self._new_key(key_type, old)
        own = self._issuing(key, above[0], above_key)
        made = self._made((own, *above), key, (b"", b""))
        self._write_key(self.files.key, key, self._own_passphrase)
        return self._written(made)

    def below_new(
        self, key_type: str | None, old_root_key: _Key
    ) -> Generation:
        """Make a new root, too, and link the two."""
        old, root = self._pair()
        root_key = self._new_key(None, root)
        new_root = renew_root(root, root_key, self._now, self._random_bytes)
        links = link_roots(
            root, old_root_key, new_root, root_key, self._random_bytes
        )
        key = self._new_key(key_type, old)
        own = self._issuing(key, new_root, root_key)
        made = self._made((own, new_root), key, links)
        # Of two at once, one fails here, before its root has a file.
        self._write_key(self.files.key, key, self._own_passphrase)
        self._write_key(self.files.root_key, root_key, self.passphrase)
        return self._written(made)

    def signed_elsewhere(
        self,
        certificate: Path,
        others: Sequence[bytes],
        links: Sequence[bytes],
    ) -> Generation:
        """Take what an offline root has signed for a request."""
        if not self.files.key.exists():
            raise Refused(
                f"{self.files.key} does not exist: make the key and its "
                "request first, by --request-out"
            )
        key = read_private_key(self.files.key, self._own_passphrase)
        own, *more = read_certificates(certificate)
        # What leads to another root counts before what leads to the old one.
        pool = (*more, *others, *self.present.chain[1:])
        old_root = self.present.chain[-1]
        chain = check_chain(own, pool, key, self._now)
        if not is_same_subject(own, self.present.chain[0]):
            raise Refused(
                "its subject is not that of the certificate before; have it "
                "signed with the subject of the request"
            )
        return self._written(
            self._made(chain, key, _links(old_root, chain[-1], links))
        )

    # --- steps --------------------------------------------------------------

    def _pair(self) -> tuple[bytes, bytes]:
        """Return issuing and root certificate, of a chain of two."""
        if len(self.present.chain) != 2:
            raise Refused(
                "there are CAs between the issuing CA and the root; make the "
                "new ones by your own ceremony, and use --request-out"
            )
        old, root = self.present.chain
        return old, root

    def _new_key(self, key_type: str | None, like: bytes) -> _Key:
        """Return a fresh key, of the kind of another's by default."""
        kind = key_type or key_kind(like)
        if not kind:
            raise Refused(
                "no key of the kind of the present one can be made here; "
                "choose another by --key-type"
            )
        return generate_key(kind)

    def _issuing(self, key: _Key, root: bytes, root_key: _Key) -> bytes:
        """Return the certificate of the next issuing key."""
        return renew_issuing(
            self.present.chain[0],
            public_octets(key),
            root,
            root_key,
            self._now,
            self._random_bytes,
        )

    def _made(
        self, chain: tuple[bytes, ...], key: _Key, links: tuple[bytes, bytes]
    ) -> Generation:
        """Return the generation, once its chain has been judged."""
        checked = check_chain(chain[0], chain[1:], key, self._now)
        return Generation(
            authority=self.authority,
            number=self._number,
            name=self.name,
            phase=Phase.PREPARED,
            chain=checked,
            old_with_new=links[0],
            new_with_old=links[1],
            key=f"file:{CA_DIRECTORY}/{self.files.key.name}",
            prepared_at=self._now,
        )

    def _write_key(
        self, path: Path, key: _Key, passphrase: bytes | None
    ) -> None:
        """
        Write a private key, as the gateway's user.

        :raises Refused: this is another, whose files the gateway refuses.
        """
        kind, _, present = self.present.key.partition(":")
        if kind == "file" and is_at_hand(self.present.key):
            owner = Path(present).stat().st_uid
            if owner != os.geteuid():
                raise Refused(
                    f"{present} belongs to user {owner}, the gateway's; run "
                    "this as that user, or the gateway cannot use the new key"
                )
        private_directory(path.parent)
        write_private_key(path, key, passphrase)

    def _written(self, made: Generation) -> Generation:
        """Write the certificates, for whoever hands them out."""
        write_certificates(self.files.chain, made.chain)
        if made.new_with_old:
            write_certificates(self.files.root, made.chain[-1:])
            write_certificates(
                self.files.links, (made.old_with_new, made.new_with_old)
            )
        return made


def _links(
    old: bytes, new: bytes, given: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Return OldWithNew and NewWithOld, if the root's key changes."""
    # RFC 5280, section 6.1.1: a trust anchor is a name and a key, not its
    # certificate.
    if is_same_subject(old, new) and _key_of(old) == _key_of(new):
        return b"", b""
    if len(given) != 2:
        raise Refused(
            "the root has another key or name: give OldWithNew and "
            "NewWithOld, by which the old root and the new one have signed "
            "each other, in one PEM file by --links"
        )
    for pair in ((given[0], given[1]), (given[1], given[0])):
        try:
            check_links(old, new, *pair)
        except UnfitAuthority:
            continue
        return pair
    raise Refused("--links: these do not link the old root and the new one")


def _key_of(certificate: bytes) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a certificate."""
    return read_certificate(certificate).public_key.spki


def find_key(
    config: Configuration,
    certificate: bytes,
    given: Path | None,
    passphrase: bytes | None,
) -> _Key:
    """
    Return the private key of a CA above the authority.

    :param given: its file; else it is looked for where ``init`` and earlier
        rollovers have put such keys.
    :raises Refused: it is not there.
    """
    wanted = _key_of(certificate)
    for path in (given,) if given else _candidates(config):
        key = read_private_key(path, passphrase)
        if public_octets(key) == wanted:
            return key
    if given is not None:
        raise Refused(f"{given}: it is not the key of the CA above")
    raise Refused(
        "the key of the CA above is not on this host: name it by --root-key, "
        "or write a request for it by --request-out FILE"
    )


def _candidates(config: Configuration) -> Iterator[Path]:
    """Yield where keys of roots are, the newest first."""
    yield from sorted(
        (config.state / CA_DIRECTORY).glob("*root.key"), reverse=True
    )
