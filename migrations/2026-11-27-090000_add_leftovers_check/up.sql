-- When the project's bucket was last looked through for multipart uploads that were left open. A new project is due
-- only after a whole interval.
ALTER TABLE projects ADD COLUMN leftovers_checked_at timestamptz NOT NULL DEFAULT now();

-- Finds the files with an open multipart upload, which are few. Files that are sent whole never have an entry, and
-- updating them stays in their page (HOT): none of these columns changes.
CREATE INDEX file_uploads_open_idx ON file_uploads (session_id, number) WHERE upload_id IS NOT NULL;
