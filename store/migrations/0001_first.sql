-- What Gatepost remembers, from its first day. Moments are milliseconds since 1970-01-01T00:00:00Z, ids are the 16 bytes
-- of a UUID, hashes are SHA-256. Tables that are only ever looked up by their own key have no rowid.

-- Secrets of this installation.
CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    bytes BLOB NOT NULL CHECK (length(bytes) = 32)
) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    subject TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    email TEXT,
    display_name TEXT,
    status TEXT NOT NULL,
    expires_at INTEGER,
    roles TEXT NOT NULL, -- an array of JSON
    scopes TEXT NOT NULL, -- names with one blank between them
    password TEXT, -- a PHC string
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The keys that accounts are found by. One table for both kinds, so that a name never equals somebody's address.
CREATE TABLE account_names (
    key TEXT PRIMARY KEY,
    account BLOB NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('name', 'email'))
) STRICT, WITHOUT ROWID;
CREATE INDEX account_names_by_account ON account_names (account);

CREATE TABLE clients (
    id TEXT PRIMARY KEY,
    display_name TEXT,
    secret TEXT, -- a PHC string
    status TEXT NOT NULL,
    expires_at INTEGER,
    scopes TEXT NOT NULL, -- as in accounts
    receives_token INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Account and client are no foreign keys: the record of an ended session outlives both.
CREATE TABLE sessions (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    gate TEXT NOT NULL,
    provider TEXT NOT NULL,
    account BLOB,
    client TEXT NOT NULL,
    requested TEXT NOT NULL, -- '*': all; '': none; '= a b': these
    spelling INTEGER NOT NULL,
    source TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    ended_at INTEGER,
    ended_for TEXT,
    CHECK ((ended_at IS NULL) = (ended_for IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_account ON sessions (account, id) WHERE ended_at IS NULL;
CREATE INDEX sessions_by_client ON sessions (client, id) WHERE ended_at IS NULL;
CREATE INDEX sessions_by_use ON sessions (used_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_by_end ON sessions (ended_at) WHERE ended_at IS NOT NULL;

-- The parent is no foreign key: a token keeps the place it grew from after that row is gone.
CREATE TABLE tokens (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    session BLOB NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    parent BLOB,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    presented_at INTEGER,
    superseded_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_session ON tokens (session);
CREATE INDEX tokens_by_parent ON tokens (parent) WHERE parent IS NOT NULL;
CREATE INDEX tokens_by_end ON tokens (expires_at);

-- What every node's memory follows. Numbers are never used again, also after the oldest lines are gone.
CREATE TABLE feed (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id ANY NOT NULL,
    detail ANY -- the reason of an end, or hashes one after the other
) STRICT;

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    gate TEXT NOT NULL,
    account BLOB,
    client TEXT,
    session BLOB,
    count INTEGER NOT NULL,
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- What can be erased from the audit while its chain of hashes still holds.
CREATE TABLE audit_names (
    number INTEGER PRIMARY KEY REFERENCES audit (number) ON DELETE CASCADE,
    name TEXT,
    source TEXT
) STRICT;

CREATE TABLE throttle (
    slot INTEGER PRIMARY KEY,
    key BLOB NOT NULL CHECK (length(key) = 16),
    rule INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT;
