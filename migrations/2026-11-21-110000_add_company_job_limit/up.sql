-- How many upload jobs of a company run at a time; null: no limit.
ALTER TABLE companies ADD COLUMN max_concurrent_jobs integer CHECK (max_concurrent_jobs >= 1);
