-- Sessions that a cookie holds: they end at a moment of their own, however they are used.
ALTER TABLE sessions ADD COLUMN expires_at INTEGER;
CREATE INDEX sessions_by_own_end ON sessions (expires_at) WHERE ended_at IS NULL AND expires_at IS NOT NULL;
