ALTER TABLE jobs DROP CONSTRAINT jobs_finish_check;
