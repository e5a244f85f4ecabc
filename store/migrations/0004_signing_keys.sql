-- Our own keys that sign, oldest first. Whoever knows a seed can sign in our name.
CREATE TABLE signing_keys (
    number INTEGER PRIMARY KEY,
    seed BLOB NOT NULL CHECK (length(seed) = 32),
    created_at INTEGER NOT NULL
) STRICT;
