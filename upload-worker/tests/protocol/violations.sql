-- What must hold in every committed state, whatever runs at the moment: a row for each thing that does not.
-- One statement sees one state.
WITH counted AS (
    SELECT session_id, count(*) AS files,
           count(*) FILTER (WHERE status = 'uploaded') AS uploaded, count(*) FILTER (WHERE status = 'skipped') AS skipped,
           count(*) FILTER (WHERE status = 'failed') AS failed, count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
           sum(size_bytes) AS bytes, count(DISTINCT path) AS paths,
           coalesce(sum(size_bytes) FILTER (WHERE status = 'uploaded'), 0) AS bytes_uploaded,
           coalesce(sum(size_bytes) FILTER (WHERE status = 'skipped'), 0) AS bytes_skipped,
           coalesce(sum(size_bytes) FILTER (WHERE status = 'failed'), 0) AS bytes_failed
    FROM file_uploads GROUP BY session_id),
open AS (
    SELECT session_id, count(*) FILTER (WHERE kind <> 'finish') AS jobs, count(*) AS all_jobs
    FROM jobs WHERE state IN ('ready', 'running') GROUP BY session_id)
SELECT wrong || ': ' || kind || ' ' || subject || ', ' || coalesce(old, 'new') || ' -> ' || new FROM audit WHERE wrong IS NOT NULL
UNION ALL
SELECT 'I8: counters are not the sums of the files: session ' || s.id FROM sync_sessions s LEFT JOIN counted c ON c.session_id = s.id
WHERE (s.files_total, s.files_uploaded, s.files_skipped, s.files_failed, s.files_cancelled,
       s.bytes_total, s.bytes_uploaded, s.bytes_skipped, s.bytes_failed)
      IS DISTINCT FROM (coalesce(c.files, 0), coalesce(c.uploaded, 0), coalesce(c.skipped, 0), coalesce(c.failed, 0),
                        coalesce(c.cancelled, 0), coalesce(c.bytes, 0), coalesce(c.bytes_uploaded, 0),
                        coalesce(c.bytes_skipped, 0), coalesce(c.bytes_failed, 0))
UNION ALL
SELECT 'I8: open_jobs is ' || s.open_jobs || ', open are ' || coalesce(o.jobs, 0) || ': session ' || s.id
FROM sync_sessions s LEFT JOIN open o ON o.session_id = s.id WHERE s.open_jobs <> coalesce(o.jobs, 0)
UNION ALL
SELECT 'I6: a path has two rows: session ' || session_id FROM counted WHERE paths <> files
UNION ALL
SELECT 'I6: two upload jobs of a run share a file: jobs ' || a.id || ' and ' || b.id
FROM jobs a JOIN jobs b ON b.session_id = a.session_id AND b.run = a.run AND b.id > a.id
     AND a.first_number <= b.last_number AND b.first_number <= a.last_number
UNION ALL
SELECT 'I3: an ended session has open jobs: session ' || s.id FROM sync_sessions s JOIN open o ON o.session_id = s.id
WHERE s.status IN ('completed', 'completed_with_errors', 'failed', 'cancelled')
UNION ALL
SELECT 'an ended session has files without an outcome: session ' || s.id FROM sync_sessions s
WHERE s.status IN ('completed', 'completed_with_errors', 'failed', 'cancelled')
  AND EXISTS (SELECT FROM file_uploads f WHERE f.session_id = s.id AND f.status IN ('pending', 'uploading'))
UNION ALL
SELECT 'a session is pending and has a running job: session ' || s.id FROM sync_sessions s
WHERE s.status = 'pending' AND EXISTS (SELECT FROM jobs j WHERE j.session_id = s.id AND j.state = 'running')
UNION ALL
SELECT 'a finish job beside open jobs: session ' || s.id FROM sync_sessions s
WHERE s.open_jobs > 0 AND EXISTS (SELECT FROM jobs j WHERE j.session_id = s.id AND j.run = s.run AND j.kind = 'finish')
UNION ALL
SELECT 'I1: nothing would end it: session ' || s.id FROM sync_sessions s
WHERE s.status IN ('pending', 'in_progress', 'paused') AND s.queued_at IS NOT NULL AND s.open_jobs = 0
  AND NOT EXISTS (SELECT FROM jobs j WHERE j.session_id = s.id AND j.run = s.run AND j.kind = 'finish'
                  AND j.state IN ('ready', 'running'))
UNION ALL
SELECT 'I1: nobody would unpark it: job ' || j.id FROM jobs j JOIN sync_sessions s ON s.id = j.session_id
WHERE j.state = 'ready' AND j.run_after = 'infinity' AND s.stop_flag <> 'pause'
UNION ALL
SELECT 'not parked in a paused session: job ' || j.id FROM jobs j JOIN sync_sessions s ON s.id = j.session_id
WHERE j.state = 'ready' AND j.kind <> 'finish' AND j.run_after <> 'infinity' AND s.stop_flag = 'pause'
UNION ALL
SELECT 'more jobs than the company may run: company ' || c.id FROM companies c
WHERE c.max_concurrent_jobs < (SELECT count(*) FROM jobs j WHERE j.company_id = c.id AND j.state = 'running' AND j.kind = 'upload')
