-- Rights to begin one session each, told as a code that is good once. The record of a session takes the grant that began it
-- along: until then a second use must find what to end. Account and client are no foreign keys, as in sessions.
CREATE TABLE grants (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    client TEXT NOT NULL,
    account BLOB NOT NULL CHECK (length(account) = 16),
    provider TEXT NOT NULL,
    scopes TEXT NOT NULL, -- what may be asked for, as in sessions.requested
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    redeemed_at INTEGER,
    session BLOB REFERENCES sessions (id) ON DELETE CASCADE,
    CHECK ((redeemed_at IS NULL) = (session IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_account ON grants (account) WHERE session IS NULL;
CREATE INDEX grants_by_client ON grants (client) WHERE session IS NULL;
-- Those not redeemed stand together in it, and are few, since they live for minutes.
CREATE INDEX grants_by_session ON grants (session);
