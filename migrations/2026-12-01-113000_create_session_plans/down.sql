DROP TABLE session_plans;
ALTER TABLE file_uploads DROP COLUMN planned;
