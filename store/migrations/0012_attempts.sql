-- What the lines of the log and of the audit share. Lines that were written before have none, and their hashes stay as they are.
ALTER TABLE audit ADD COLUMN attempt BLOB CHECK (length(attempt) = 16);
