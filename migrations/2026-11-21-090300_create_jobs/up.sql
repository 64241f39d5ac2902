-- A unit of work. The row is the truth and the outbox; what Redis says is a hint. See docs/ARCHITECTURE.md.
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    company_id uuid NOT NULL,
    session_id uuid NOT NULL,
    run integer NOT NULL,
    -- The source root it reads, or 'any'.
    location text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('scan', 'upload', 'finish')),
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'running', 'done', 'cancelled', 'dead')),
    -- Counts the claims: what an earlier holder writes is refused.
    epoch integer NOT NULL DEFAULT 0,
    worker_id text,
    lease_until timestamptz,
    run_after timestamptz NOT NULL DEFAULT now(),
    errors integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    last_error text,
    pushed_at timestamptz,
    suspect_file bigint,
    -- The range of file numbers of an upload job, both included.
    first_number bigint,
    last_number bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    FOREIGN KEY (company_id, session_id) REFERENCES sync_sessions (company_id, id) ON DELETE CASCADE,
    CHECK ((kind = 'upload') = (first_number IS NOT NULL AND last_number IS NOT NULL)),
    CHECK (state <> 'running' OR (worker_id IS NOT NULL AND lease_until IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX jobs_session_idx ON jobs (company_id, session_id, run);
CREATE INDEX jobs_ready_idx ON jobs (location, company_id, id) WHERE state = 'ready';
CREATE INDEX jobs_running_idx ON jobs (id) WHERE state = 'running';
-- A run is finished once, and walked once at a time.
CREATE UNIQUE INDEX jobs_finish_key ON jobs (session_id, run) WHERE kind = 'finish';
CREATE UNIQUE INDEX jobs_scan_key ON jobs (session_id, run) WHERE kind = 'scan';
SELECT protect_tenant_table('jobs');
GRANT SELECT, INSERT, UPDATE, DELETE ON jobs TO uploader_tenant;
