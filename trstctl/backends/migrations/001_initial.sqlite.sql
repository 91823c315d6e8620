-- SPDX-License-Identifier: MIT
-- Times are microseconds since 1970, UTC.  Every key begins with, and every
-- query names, tenant_id; but leases belong to processes, and serials, their
-- revocation and CRLs to authorities, which may serve several tenants.

-- A request, the intent to sign it, and its certificate: one row, since each
-- of the three has at most one of the others that counts.  A page that is
-- written costs more than anything else here.
CREATE TABLE requests (
    number INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    protocol TEXT NOT NULL,
    principal TEXT NOT NULL,
    request_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    key_expires INTEGER NOT NULL,
    -- Whether the idempotency key is this row's; an expired one may be taken.
    holds_key INTEGER NOT NULL DEFAULT 1,
    endpoint TEXT NOT NULL,
    operation TEXT NOT NULL,
    profile TEXT NOT NULL,
    profile_version TEXT NOT NULL,
    subject TEXT NOT NULL,
    names TEXT NOT NULL,
    public_key_fingerprint TEXT NOT NULL,
    csr BLOB NOT NULL,
    request_id TEXT NOT NULL,
    peer TEXT NOT NULL,
    -- The protocol's transactionID, if it has such a thing.
    transaction_id TEXT NOT NULL DEFAULT '',
    -- 'retried': only the serial of an abandoned intent is left to keep; the
    -- request lives on in a later row of the same id.
    -- (Not IN: SQLite builds a table of such a list at every write.)
    state TEXT NOT NULL CHECK (
        state = 'open' OR state = 'issued' OR state = 'held'
        OR state = 'approved' OR state = 'denied' OR state = 'abandoned'
        OR state = 'retried'
    ),
    was_held INTEGER NOT NULL DEFAULT 0,
    decided_by TEXT NOT NULL DEFAULT '',
    decided_at INTEGER,
    reason TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    -- The last intent to sign it, if there was one.
    intent TEXT,
    authority TEXT,
    serial TEXT,
    owner TEXT,
    tbs_sha256 BLOB,
    secret_id TEXT,
    not_before INTEGER,
    not_after INTEGER,
    promised_at INTEGER,
    -- Its certificate, once there is one.
    status TEXT CHECK (
        status = 'valid' OR status = 'revoked' OR status = 'superseded'
    ),
    issued_at INTEGER,
    -- The serial of the certificate that a renewal has put in its place.
    superseded_by TEXT NOT NULL DEFAULT '',
    -- Until when its client has to confirm it; NULL: nobody waits for that.
    confirm_by INTEGER,
    -- Of the password that revokes it, if its request came with one: a slow,
    -- salted hash.
    revocation_verifier TEXT NOT NULL DEFAULT '',
    -- Of the serial, whether or not there is a certificate: a promise that
    -- came to nothing counts as revoked.  changed_at grows with each change
    -- in an authority, whatever the clocks say.
    revoked_at INTEGER,
    revocation_reason TEXT NOT NULL DEFAULT '',
    released_at INTEGER,
    changed_at INTEGER,
    der BLOB,
    CHECK (serial IS NULL OR (
        intent IS NOT NULL AND authority IS NOT NULL AND owner IS NOT NULL
        AND not_before IS NOT NULL AND not_after IS NOT NULL
        AND promised_at IS NOT NULL
    )),
    CHECK (state NOT IN ('open', 'issued') OR serial IS NOT NULL),
    CHECK ((state = 'issued') = (status IS NOT NULL)),
    CHECK ((state = 'issued') = (der IS NOT NULL)),
    CHECK (status IS NULL OR (status = 'revoked') = (revoked_at IS NOT NULL)),
    CHECK (changed_at IS NOT NULL OR (
        revoked_at IS NULL AND released_at IS NULL
    ))
) STRICT;

-- An idempotency key has one holder.  The principal comes first, so that its
-- certificates are found without an index that would cost each of them a page.
CREATE UNIQUE INDEX requests_by_key
    ON requests (tenant_id, principal, protocol, request_key)
    WHERE holds_key = 1;
CREATE INDEX requests_without_key ON requests (tenant_id, principal)
    WHERE holds_key = 0;
-- A serial that was ever promised stays here; the constraint is what keeps
-- it from being promised twice, in whichever tenant.
CREATE UNIQUE INDEX requests_by_serial ON requests (serial, authority)
    WHERE serial IS NOT NULL;
-- Only what was held is ever looked for by its id.
CREATE UNIQUE INDEX requests_held ON requests (tenant_id, id)
    WHERE was_held = 1 AND state <> 'retried';
-- Listing: all of a tenant, oldest first; those that did not go straight
-- to a certificate; those that are being signed.
CREATE INDEX requests_by_age ON requests (tenant_id);
CREATE INDEX requests_by_state ON requests (tenant_id, state)
    WHERE state NOT IN ('open', 'issued');
-- How many wait for whom.
CREATE INDEX requests_held_by_principal
    ON requests (tenant_id, principal, key_expires) WHERE state = 'held';
CREATE INDEX requests_open ON requests (tenant_id, owner)
    WHERE state = 'open';
-- A client that built its held request anew.
CREATE INDEX requests_waiting ON requests (tenant_id, public_key_fingerprint)
    WHERE state IN ('held', 'approved');

-- By transactionID: to tell a client what became of its request, and to keep
-- two requests from being one transaction.
CREATE INDEX requests_by_transaction ON requests (tenant_id, transaction_id)
    WHERE transaction_id <> '';

-- To list certificates, newest first.  What stands in the order of time
-- costs a certificate hardly anything; each of these carries what else a
-- listing filters by, so that no row is read for those that are left out.
CREATE INDEX certificates_by_issue
    ON requests (tenant_id, issued_at, number, profile, protocol, principal)
    WHERE status IS NOT NULL;
CREATE INDEX certificates_by_profile
    ON requests (tenant_id, profile, issued_at) WHERE status IS NOT NULL;
CREATE INDEX certificates_by_protocol
    ON requests (tenant_id, protocol, issued_at, number, profile)
    WHERE status IS NOT NULL;
CREATE INDEX certificates_by_status
    ON requests
    (tenant_id, status, issued_at, number, profile, protocol, principal)
    WHERE status <> 'valid';
-- Soonest to expire.
CREATE INDEX certificates_by_expiry
    ON requests (tenant_id, not_after, number, profile, protocol)
    WHERE status = 'valid';
-- Keys are spread at random: an entry is a page.  A few digits tell them
-- apart and keep the index small enough to stay in memory.
CREATE INDEX certificates_by_key
    ON requests (substr(public_key_fingerprint, 1, 8))
    WHERE status IS NOT NULL;

-- What a CRL lists, in the order of the serials, and what has changed since
-- the last one: all of an entry, so that no row is read, in which requests
-- and certificates lie between.  A serial enters when it is revoked; no
-- certificate costs anything here.
CREATE INDEX requests_revoked ON requests
    (authority, serial, not_after, revoked_at, revocation_reason, released_at)
    WHERE revoked_at IS NOT NULL;
CREATE INDEX requests_changed ON requests
    (authority, changed_at, serial, not_after, revoked_at, revocation_reason,
    released_at)
    WHERE changed_at IS NOT NULL;

-- Certificates that nobody has confirmed yet.
CREATE INDEX certificates_unconfirmed ON requests (confirm_by)
    WHERE confirm_by IS NOT NULL;

-- Keys that nobody may have certified again.
CREATE INDEX requests_compromised
    ON requests (tenant_id, public_key_fingerprint)
    WHERE revocation_reason = 'keyCompromise';

-- Common names and subject alternative names, to find certificates by.
CREATE TABLE certificate_names (
    tenant_id TEXT NOT NULL,
    value TEXT NOT NULL,
    certificate INTEGER NOT NULL REFERENCES requests (number),
    PRIMARY KEY (tenant_id, value, certificate)
) STRICT, WITHOUT ROWID;

CREATE TABLE credentials (
    tenant_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    verifier TEXT NOT NULL,
    names TEXT NOT NULL,
    profiles TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    PRIMARY KEY (tenant_id, kind, name)
) STRICT, WITHOUT ROWID;

-- The secret itself is nowhere: digest is its SHA-256.
CREATE TABLE secrets (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    digest TEXT NOT NULL,
    profile TEXT NOT NULL,
    names TEXT NOT NULL,
    -- The only public key that it is for; empty: whichever comes first.
    key_fingerprint TEXT NOT NULL DEFAULT '',
    protocol TEXT NOT NULL,
    -- How many certificates it buys.
    uses INTEGER NOT NULL,
    -- What a certificate must say; NULL: any alternative names.
    device TEXT NOT NULL DEFAULT '',
    subject TEXT NOT NULL DEFAULT '',
    alternative_names TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- Each use that is taken: JSON, or empty.  What it was burnt and is
    -- reserved for is decided all at once, hence one value.
    burns TEXT NOT NULL DEFAULT '',
    -- When the last use was taken; and when one is free again if nobody
    -- decides the request that has reserved it.
    burnt_at INTEGER,
    reserved_until INTEGER,
    revoked_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, digest)
) STRICT, WITHOUT ROWID;

-- With rowids: the rows are longer than what a page of an index takes.
CREATE TABLE audit (
    tenant_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    body TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
) STRICT;

-- Where each tenant's chain ends; at is the latest time in it.
CREATE TABLE audit_heads (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    sequence INTEGER NOT NULL,
    hash TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    owner TEXT NOT NULL PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest CRL of each scope of an authority.  With rowids: see audit.
CREATE TABLE crls (
    authority TEXT NOT NULL,
    scope TEXT NOT NULL,
    number INTEGER NOT NULL,
    base INTEGER NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    der BLOB NOT NULL,
    PRIMARY KEY (authority, scope)
) STRICT;

-- The last CRLNumber that was given out.
CREATE TABLE crl_numbers (
    authority TEXT NOT NULL PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Keys of an authority that take the place of another; the configuration has
-- the first.  With rowids: see audit.
CREATE TABLE generations (
    authority TEXT NOT NULL,
    number INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    phase TEXT NOT NULL CHECK (
        phase IN ('prepared', 'active', 'finished', 'dropped')
    ),
    -- DER certificates, one after the other.
    chain BLOB NOT NULL,
    -- What links two roots; empty: the root stays.
    old_with_new BLOB NOT NULL,
    new_with_old BLOB NOT NULL,
    key TEXT NOT NULL,
    prepared_at INTEGER NOT NULL,
    activated_at INTEGER,
    stepped_at INTEGER,
    PRIMARY KEY (authority, number)
) STRICT;
-- One change at a time.
CREATE UNIQUE INDEX generations_under_way ON generations (authority)
    WHERE phase = 'prepared' OR phase = 'active';

-- Transactions of several messages.  With rowids: see audit.
CREATE TABLE dialogues (
    tenant_id TEXT NOT NULL,
    protocol TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    party TEXT NOT NULL,
    state TEXT NOT NULL,
    -- SHA-256 of the last message, and what it was answered with.
    request TEXT NOT NULL,
    answer BLOB NOT NULL,
    notes TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    -- Whose quota it counts towards; empty: nobody's.
    charged_to TEXT NOT NULL,
    PRIMARY KEY (tenant_id, protocol, endpoint, transaction_id)
) STRICT;
CREATE INDEX dialogues_by_expiry ON dialogues (expires_at);

-- How many dialogues are charged to whom: counted as they come and go, since
-- somebody may have a hundred thousand of them.
CREATE TABLE dialogue_counts (
    tenant_id TEXT NOT NULL,
    protocol TEXT NOT NULL,
    charged_to TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, protocol, charged_to)
) STRICT, WITHOUT ROWID;
