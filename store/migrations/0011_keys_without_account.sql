-- Keys outlive their account, so that whoever still holds one is told so; and some never were anybody's where they come from.
CREATE TABLE kept_api_keys (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    prefix TEXT NOT NULL,
    account BLOB REFERENCES accounts (id) ON DELETE CASCADE,
    environment TEXT NOT NULL,
    kind TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    cancelled_at INTEGER,
    removed_at INTEGER, -- when its account was; without that and without an account it is nobody's
    CHECK (account IS NULL OR removed_at IS NULL)
) STRICT, WITHOUT ROWID;
INSERT INTO kept_api_keys (hash, prefix, account, environment, kind, created_at, expires_at, cancelled_at)
    SELECT hash, prefix, account, environment, kind, created_at, expires_at, cancelled_at FROM api_keys;
DROP TABLE api_keys;
ALTER TABLE kept_api_keys RENAME TO api_keys;
CREATE INDEX api_keys_by_account ON api_keys (account, created_at);
CREATE INDEX api_keys_by_end ON api_keys (min(
    ifnull(cancelled_at, 9223372036854775807), ifnull(expires_at, 9223372036854775807), ifnull(removed_at, 9223372036854775807)
));
