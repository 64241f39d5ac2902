-- What a dry run would do with a file that it only recorded: send, overwrite, compare. Null in all other sessions, where
-- it takes no room. No CHECK: that would read the whole table.
ALTER TABLE file_uploads ADD COLUMN planned text;

-- The plan of a dry run. What its files tell is counted from them at the session's end; what only a walk can tell is
-- kept here from the last one that came to its end.
CREATE TABLE session_plans (
    session_id uuid PRIMARY KEY,
    company_id uuid NOT NULL,
    -- The run whose walk it was.
    run integer NOT NULL,
    files_excluded bigint NOT NULL,
    directories_excluded bigint NOT NULL,
    list_requests bigint NOT NULL,
    -- Null until the session has ended.
    plan jsonb,
    FOREIGN KEY (company_id, session_id) REFERENCES sync_sessions (company_id, id) ON DELETE CASCADE
);
SELECT protect_tenant_table('session_plans');
GRANT SELECT, INSERT, UPDATE ON session_plans TO uploader_tenant;
