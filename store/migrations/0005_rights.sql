-- What accounts may do at the services behind us, who they are in more words, and since when what is signed for them counts.
ALTER TABLE accounts ADD COLUMN permissions TEXT NOT NULL DEFAULT '[]'; -- an array of JSON, as roles
ALTER TABLE accounts ADD COLUMN first_name TEXT;
ALTER TABLE accounts ADD COLUMN last_name TEXT;
ALTER TABLE accounts ADD COLUMN profile_url TEXT;
ALTER TABLE accounts ADD COLUMN cut_off INTEGER NOT NULL DEFAULT 0;
