-- Tokens of other issuers that an operator has ended here before their time. Only the hash is kept.
CREATE TABLE revoked (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revoked_by_end ON revoked (expires_at);
