-- SPDX-License-Identifier: MIT
-- Times are microseconds since 1970, UTC.  Every key begins with, and every
-- query names, tenant_id; the leases belong to processes, not to tenants.

CREATE TABLE requests (
    number INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    protocol TEXT NOT NULL,
    principal TEXT NOT NULL,
    request_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    key_expires INTEGER NOT NULL,
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
    state TEXT NOT NULL CHECK (state IN (
        'held', 'approved', 'denied', 'open', 'issued', 'abandoned'
    )),
    certificate INTEGER REFERENCES certificates (number),
    was_held INTEGER NOT NULL DEFAULT 0,
    decided_by TEXT NOT NULL DEFAULT '',
    decided_at INTEGER,
    reason TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL
) STRICT;

-- Only what was held is ever looked for by its id.  An index costs each
-- enrollment a page of its own, so there is none for the others.
CREATE UNIQUE INDEX requests_held ON requests (tenant_id, id)
    WHERE was_held = 1;
-- Listing: all of a tenant, oldest first; those that did not go straight
-- to a certificate.
CREATE INDEX requests_by_age ON requests (tenant_id);
CREATE INDEX requests_by_state ON requests (tenant_id, state)
    WHERE state NOT IN ('open', 'issued');
-- A client that built its held request anew.
CREATE INDEX requests_waiting ON requests (tenant_id, public_key_fingerprint)
    WHERE state IN ('held', 'approved');

-- Which request holds an idempotency key.
CREATE TABLE request_keys (
    tenant_id TEXT NOT NULL,
    protocol TEXT NOT NULL,
    principal TEXT NOT NULL,
    request_key TEXT NOT NULL,
    request INTEGER NOT NULL REFERENCES requests (number),
    PRIMARY KEY (tenant_id, protocol, principal, request_key)
) STRICT, WITHOUT ROWID;

-- A serial that was ever promised stays here; the constraint is what keeps
-- it from being promised twice, in whichever tenant.
CREATE TABLE intents (
    number INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    authority TEXT NOT NULL,
    serial TEXT NOT NULL,
    request INTEGER NOT NULL REFERENCES requests (number),
    owner TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'issued', 'abandoned')),
    tbs BLOB NOT NULL,
    secret_id TEXT,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    reason TEXT NOT NULL DEFAULT '',
    UNIQUE (serial, authority)
) STRICT;

CREATE INDEX intents_open ON intents (owner) WHERE state = 'open';

-- A certificate has the number of its intent, whose constraint keeps its
-- serial unique, and whose index finds it.
CREATE TABLE certificates (
    number INTEGER PRIMARY KEY REFERENCES intents (number),
    tenant_id TEXT NOT NULL,
    authority TEXT NOT NULL,
    serial TEXT NOT NULL,
    subject TEXT NOT NULL,
    names TEXT NOT NULL,
    profile TEXT NOT NULL,
    protocol TEXT NOT NULL,
    principal TEXT NOT NULL,
    public_key_fingerprint TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('valid', 'revoked', 'superseded')),
    issued_at INTEGER NOT NULL,
    revoked_at INTEGER,
    revocation_reason TEXT NOT NULL DEFAULT '',
    der BLOB NOT NULL
) STRICT;

-- One index for each way to list them.
CREATE INDEX certificates_by_issue ON certificates (tenant_id, issued_at);
CREATE INDEX certificates_by_expiry ON certificates (tenant_id, not_after)
    WHERE status = 'valid';
CREATE INDEX certificates_by_status
    ON certificates (tenant_id, status, issued_at) WHERE status <> 'valid';
CREATE INDEX certificates_by_profile
    ON certificates (tenant_id, profile, issued_at);
CREATE INDEX certificates_by_principal
    ON certificates (tenant_id, principal, issued_at);
CREATE INDEX certificates_by_public_key
    ON certificates (tenant_id, public_key_fingerprint, issued_at);

-- Common names and subject alternative names, to find certificates by.
CREATE TABLE certificate_names (
    tenant_id TEXT NOT NULL,
    value TEXT NOT NULL,
    certificate INTEGER NOT NULL REFERENCES certificates (number),
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
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    burnt_at INTEGER,
    burnt_for TEXT NOT NULL DEFAULT '',
    burnt_request TEXT NOT NULL DEFAULT '',
    burnt_authority TEXT NOT NULL DEFAULT '',
    burnt_serial TEXT NOT NULL DEFAULT '',
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
