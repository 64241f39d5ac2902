DROP INDEX file_uploads_open_idx;
ALTER TABLE projects DROP COLUMN leftovers_checked_at;
