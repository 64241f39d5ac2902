ALTER TABLE companies DROP COLUMN max_concurrent_jobs;
