-- Our keys by purpose and algorithm, and how they end. The numbers stay.
CREATE TABLE keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    purpose TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    secret BLOB NOT NULL, -- a seed, a shared secret, or an RSA key in DER
    created_at INTEGER NOT NULL,
    retired_at INTEGER,
    verifies_until INTEGER,
    CHECK ((retired_at IS NULL) = (verifies_until IS NULL))
) STRICT;
INSERT INTO keys (number, purpose, algorithm, secret, created_at)
    SELECT number, 'own', 'EdDSA', seed, created_at FROM signing_keys ORDER BY number;
DROP TABLE signing_keys;

-- Numbers that are never used twice: the next one of each kind.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
