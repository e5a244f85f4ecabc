-- Families of refresh tokens that rotate: which token of each is the present one. Of no token the text is kept, nor its hash.
CREATE TABLE families (
    id BLOB PRIMARY KEY CHECK (length(id) = 32),
    account BLOB NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    adopted INTEGER NOT NULL,
    current INTEGER NOT NULL,
    issued_at INTEGER NOT NULL,
    previous INTEGER,
    superseded_at INTEGER,
    expires_at INTEGER NOT NULL,
    CHECK ((previous IS NULL) = (superseded_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX families_by_account ON families (account, issued_at);
CREATE INDEX families_by_end ON families (expires_at);
