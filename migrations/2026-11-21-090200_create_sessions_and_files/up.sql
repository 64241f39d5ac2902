CREATE TABLE sync_sessions (
    id uuid PRIMARY KEY,
    company_id uuid NOT NULL,
    project_id uuid NOT NULL,
    cycle_id uuid NOT NULL,
    -- Who started it; kept as a bare id, for the record outlives the person's membership.
    user_id uuid NOT NULL,
    source_root text NOT NULL,
    source_path text NOT NULL,
    settings jsonb NOT NULL,
    -- project.prefix + cycle.s3_prefix + settings.target_prefix, as they were when the session was made.
    key_prefix text NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'in_progress', 'paused', 'completed', 'completed_with_errors', 'failed', 'cancelled')),
    stop_flag text NOT NULL DEFAULT 'run' CHECK (stop_flag IN ('run', 'pause', 'cancel', 'fail')),
    run integer NOT NULL DEFAULT 1 CHECK (run >= 1),
    -- Scan and upload jobs that are ready or running; finish jobs are not counted.
    open_jobs integer NOT NULL DEFAULT 0 CHECK (open_jobs >= 0),
    scan_complete boolean NOT NULL DEFAULT false,
    files_total bigint NOT NULL DEFAULT 0,
    files_uploaded bigint NOT NULL DEFAULT 0,
    files_skipped bigint NOT NULL DEFAULT 0,
    files_failed bigint NOT NULL DEFAULT 0,
    files_cancelled bigint NOT NULL DEFAULT 0,
    bytes_total bigint NOT NULL DEFAULT 0,
    bytes_uploaded bigint NOT NULL DEFAULT 0,
    bytes_skipped bigint NOT NULL DEFAULT 0,
    bytes_failed bigint NOT NULL DEFAULT 0,
    error_code text,
    error_detail text,
    repeats uuid,
    idempotency_key text,
    idempotency_hash bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- When its present run was handed to the workers; null: made, but not started.
    queued_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    UNIQUE (company_id, id),
    UNIQUE (company_id, user_id, idempotency_key),
    FOREIGN KEY (company_id, project_id, cycle_id) REFERENCES cycles (company_id, project_id, id) ON DELETE CASCADE
) WITH (fillfactor = 50); -- the counters are written several times a second: room for HOT updates
CREATE INDEX sync_sessions_cycle_idx ON sync_sessions (company_id, project_id, cycle_id, id);
-- What the sweeper looks through.
CREATE INDEX sync_sessions_unfinished_idx ON sync_sessions (id)
    WHERE status IN ('pending', 'in_progress', 'paused');
SELECT protect_tenant_table('sync_sessions');
GRANT SELECT, INSERT, UPDATE, DELETE ON sync_sessions TO uploader_tenant;

-- One row per file found, numbered by the scan. It is the hot table: narrow (the key is computed from the
-- session's key_prefix and the path), without foreign keys, and with no index but its key, so that the update
-- of an outcome stays in its page (HOT).
CREATE TABLE file_uploads (
    session_id uuid NOT NULL,
    number bigint NOT NULL,
    company_id uuid NOT NULL,
    -- Where its bytes are no clean UTF-8, encoded: see domain::object_key.
    path text NOT NULL,
    path_is_encoded boolean NOT NULL DEFAULT false,
    size_bytes bigint NOT NULL,
    modified_at timestamptz,
    status text NOT NULL
        CHECK (status IN ('pending', 'uploading', 'uploaded', 'skipped', 'failed', 'cancelled')),
    attempts integer NOT NULL DEFAULT 0,
    etag text,
    checksum text,
    error_code text,
    error_detail text,
    -- The open multipart upload while `uploading`.
    upload_id text,
    part_size_bytes bigint,
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (session_id, number)
) PARTITION BY RANGE (session_id);
SELECT protect_tenant_table('file_uploads');
GRANT SELECT, INSERT, UPDATE, DELETE ON file_uploads TO uploader_tenant;

-- The least UUIDv7 of an instant: 48 bits of milliseconds, then zeros.
CREATE FUNCTION uuid7_floor(instant timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT
    RETURN (lpad(to_hex((extract(epoch FROM instant) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

-- Makes the partitions from last month to `months_ahead` months from now that are missing. A session's month is
-- its id's. Nobody is granted anything on a partition: rows are reached through the parent and its policies.
-- Rows that came before their month's partition are moved out of the default one.
CREATE FUNCTION ensure_file_partitions(months_ahead integer) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month';
    last_month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => months_ahead);
    partition_name text;
    lower_bound uuid;
    upper_bound uuid;
    made integer := 0;
BEGIN
    WHILE month <= last_month LOOP
        partition_name := 'file_uploads_' || to_char(month, 'YYYY_MM');
        IF to_regclass(format('public.%I', partition_name)) IS NULL THEN
            lower_bound := uuid7_floor(month AT TIME ZONE 'UTC');
            upper_bound := uuid7_floor((month + interval '1 month') AT TIME ZONE 'UTC');
            EXECUTE format('CREATE TABLE public.%I (LIKE public.file_uploads INCLUDING ALL) WITH (fillfactor = 60)', partition_name);
            -- Forced row-level security would hide the rows from their owner; the lock keeps others out meanwhile.
            ALTER TABLE public.file_uploads_default NO FORCE ROW LEVEL SECURITY;
            EXECUTE format(
                'WITH moved AS (DELETE FROM public.file_uploads_default WHERE session_id >= $1 AND session_id < $2 RETURNING *)
                 INSERT INTO public.%I SELECT * FROM moved', partition_name)
                USING lower_bound, upper_bound;
            ALTER TABLE public.file_uploads_default FORCE ROW LEVEL SECURITY;
            EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', partition_name);
            EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', partition_name);
            EXECUTE format(
                'ALTER TABLE public.file_uploads ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                partition_name, lower_bound, upper_bound);
            made := made + 1;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN made;
END
$$;

-- Catches what no month's partition takes, so that a forgotten `migrate` fails no upload.
CREATE TABLE file_uploads_default PARTITION OF file_uploads DEFAULT WITH (fillfactor = 60);
ALTER TABLE file_uploads_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE file_uploads_default FORCE ROW LEVEL SECURITY;
SELECT ensure_file_partitions(12);

-- Files go with their session, however it goes: no foreign key cascades into the hot table.
CREATE FUNCTION delete_files_of_session() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM public.file_uploads WHERE session_id = OLD.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER delete_files AFTER DELETE ON sync_sessions
    FOR EACH ROW EXECUTE FUNCTION delete_files_of_session();
