-- Watches a test's database from inside: each change of a state is noted as it happens, with what was wrong about it
-- (`wrong`; null: nothing). As the superuser's functions they see past row-level security.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,
    old text,
    new text NOT NULL,
    -- Of a job its epoch, of a session its run.
    epoch integer,
    wrong text
);

CREATE FUNCTION watch_jobs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    wrong text;
    flag text;
    most integer;
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.state = NEW.state AND OLD.epoch = NEW.epoch THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.state = 'running' THEN
        -- The claim holds the session, so that its flag stands; and the company where it counts the jobs.
        SELECT stop_flag INTO flag FROM sync_sessions WHERE id = NEW.session_id;
        SELECT max_concurrent_jobs INTO most FROM companies WHERE id = NEW.company_id;
        IF NEW.epoch <> OLD.epoch + 1 THEN
            wrong := 'a claim that is not the next epoch';
        ELSIF NEW.kind <> 'finish' AND flag <> 'run' THEN
            wrong := 'claimed while its session says ' || flag;
        ELSIF OLD.run_after > clock_timestamp() THEN
            wrong := 'claimed before it was due';
        ELSIF NEW.kind = 'upload' AND most < (SELECT count(*) FROM jobs WHERE company_id = NEW.company_id
                                              AND state = 'running' AND kind = 'upload') THEN
            wrong := 'claimed past the limit of its company';
        END IF;
    ELSIF TG_OP = 'UPDATE' AND OLD.epoch <> NEW.epoch THEN
        wrong := 'an epoch moved without a claim';
    END IF;
    INSERT INTO audit (kind, subject, old, new, epoch, wrong)
    VALUES ('job', NEW.id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state, NEW.epoch, wrong);
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION watch_jobs();

CREATE FUNCTION watch_sessions() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    INSERT INTO audit (kind, subject, old, new, epoch, wrong)
    VALUES ('session', NEW.id, OLD.status, NEW.status, NEW.run,
            CASE WHEN (NEW.run <> OLD.run) <> (OLD.status IN ('completed_with_errors', 'failed'))
                 THEN 'an ended session moved without a retry, or another one with it' END);
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER UPDATE ON sync_sessions FOR EACH ROW WHEN (OLD.status <> NEW.status)
    EXECUTE FUNCTION watch_sessions();

-- The tests write the job and its epoch into the ETag of what they record.
CREATE FUNCTION watch_files() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    wrong text;
BEGIN
    IF NEW.status IN ('uploaded', 'skipped', 'failed') AND NEW.etag IS DISTINCT FROM OLD.etag
       AND NOT EXISTS (SELECT FROM jobs WHERE id || '/' || epoch = NEW.etag AND state = 'running') THEN
        wrong := 'an outcome under an old epoch';
    ELSIF NEW.status = 'pending' AND NOT EXISTS (SELECT FROM sync_sessions WHERE id = NEW.session_id
                                                 AND status IN ('completed_with_errors', 'failed')) THEN
        wrong := 'pending again without a retry';
    END IF;
    INSERT INTO audit (kind, subject, old, new, wrong)
    VALUES ('file', NEW.session_id || ' ' || NEW.number, OLD.status, NEW.status, wrong);
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER UPDATE ON file_uploads FOR EACH ROW WHEN (OLD.status <> NEW.status)
    EXECUTE FUNCTION watch_files();
