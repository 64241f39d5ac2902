-- When the files of a session stopped being recorded; null: its rows are there. Without an index, so that marking a
-- month's sessions stays in their pages (HOT).
ALTER TABLE sync_sessions ADD COLUMN files_dropped_at timestamptz;

-- The instant of a UUIDv7.
CREATE FUNCTION uuid7_instant(id uuid) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT
    RETURN to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0);

-- The two functions below are how the workers care for the partitions, once an hour. Their login owns no table, so they
-- run as the schema's owner, and may do no more than they say: the months are worked out or checked here, and only
-- uploader_system, which may delete every file anyway, may call them. The other way, a gateway that holds the owner's
-- password for as long as it runs, would give whoever breaks into one all there is.
--
-- Both take locks that stand against every reader and writer of files (a prepared statement locks all partitions).
-- Whoever waits for such a lock makes all who come later wait as well: hence they give up soon, change nothing, and
-- are called again. DETACH PARTITION CONCURRENTLY would not wait like that, but there is none where a table has a
-- default partition.

-- Makes the partitions from last month to `months_ahead` months from now that are missing. A session's month is
-- its id's. Nobody is granted anything on a partition: rows are reached through the parent and its policies.
-- Rows that came before their month's partition are moved out of the default one, those of months long past, too.
CREATE OR REPLACE FUNCTION ensure_file_partitions(months_ahead integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '250ms' AS $$
DECLARE
    this_month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    last_month timestamp := this_month + make_interval(months => months_ahead);
    has_strays boolean := pg_relation_size('public.file_uploads_default') > 0;
    months timestamp[];
    month timestamp;
    partition_name text;
    lower_bound uuid;
    upper_bound uuid;
    made integer := 0;
BEGIN
    IF (months_ahead BETWEEN 1 AND 24) IS NOT TRUE THEN
        RAISE invalid_parameter_value USING MESSAGE = format('months_ahead must be from 1 to 24, not %s', months_ahead);
    END IF;
    months := ARRAY(SELECT generate_series(this_month - interval '1 month', last_month, interval '1 month'));
    IF has_strays THEN
        -- Forced row-level security would hide the rows from their owner; the lock keeps others out meanwhile.
        ALTER TABLE public.file_uploads_default NO FORCE ROW LEVEL SECURITY;
        months := months || ARRAY(
            SELECT DISTINCT date_trunc('month', public.uuid7_instant(session_id) AT TIME ZONE 'UTC')
            FROM public.file_uploads_default WHERE session_id < public.uuid7_floor(months[1] AT TIME ZONE 'UTC'));
    END IF;
    FOREACH month IN ARRAY months LOOP
        partition_name := 'file_uploads_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass(format('public.%I', partition_name)) IS NOT NULL;
        lower_bound := public.uuid7_floor(month AT TIME ZONE 'UTC');
        upper_bound := public.uuid7_floor((month + interval '1 month') AT TIME ZONE 'UTC');
        EXECUTE format('CREATE TABLE public.%I (LIKE public.file_uploads INCLUDING ALL) WITH (fillfactor = 40)', partition_name);
        IF has_strays THEN
            EXECUTE format(
                'WITH moved AS (DELETE FROM public.file_uploads_default WHERE session_id >= $1 AND session_id < $2 RETURNING *)
                 INSERT INTO public.%I SELECT * FROM moved', partition_name)
                USING lower_bound, upper_bound;
        END IF;
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', partition_name);
        EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', partition_name);
        EXECUTE format(
            'ALTER TABLE public.file_uploads ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
            partition_name, lower_bound, upper_bound);
        made := made + 1;
    END LOOP;
    IF has_strays THEN
        -- Pages that nothing is left in would make the next call look again.
        IF NOT EXISTS (SELECT FROM public.file_uploads_default) THEN
            TRUNCATE public.file_uploads_default;
        END IF;
        ALTER TABLE public.file_uploads_default FORCE ROW LEVEL SECURITY;
    END IF;
    RETURN made;
END
$$;
REVOKE ALL ON FUNCTION ensure_file_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_file_partitions TO uploader_system;

-- Drops the files of all sessions made in a month that was over at least a month ago. The caller has made sure that
-- nobody needs them: the owner, whose rights this has, sees no session.
CREATE FUNCTION drop_file_partition(month date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '250ms' AS $$
BEGIN
    IF (extract(day FROM month) = 1 AND month + interval '2 months' <= now() AT TIME ZONE 'UTC') IS NOT TRUE THEN
        RAISE invalid_parameter_value USING MESSAGE = format(
            'the files of %s are kept: it must be the first day of a month that was over a month ago', month);
    END IF;
    EXECUTE format('DROP TABLE public.%I', 'file_uploads_' || to_char(month, 'YYYY_MM'));
END
$$;
REVOKE ALL ON FUNCTION drop_file_partition FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_file_partition TO uploader_system;
