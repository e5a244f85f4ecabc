-- Terminals. Of a role's guard the secret is a hash where it is a password, and in clear where it is a PIN, since an administrator
-- may look that up.
CREATE TABLE terminals (
    name TEXT PRIMARY KEY,
    plan TEXT NOT NULL,
    administrator TEXT NOT NULL,
    administrator_secret TEXT,
    user TEXT NOT NULL,
    user_secret TEXT,
    version INTEGER NOT NULL,
    CHECK ((administrator = 'unsecured') = (administrator_secret IS NULL)),
    CHECK ((user = 'unsecured') = (user_secret IS NULL))
) STRICT, WITHOUT ROWID;
