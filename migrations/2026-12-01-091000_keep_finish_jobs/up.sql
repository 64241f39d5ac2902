-- Nothing but its finish job ends a session, so that job is closed by nothing but the end of the session. One that an
-- earlier version closed too early goes on. (Forced row-level security hides the rows from their owner.)
ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY;
ALTER TABLE sync_sessions NO FORCE ROW LEVEL SECURITY;
UPDATE jobs SET state = 'ready', worker_id = NULL, lease_until = NULL, pushed_at = NULL, finished_at = NULL, run_after = now()
FROM sync_sessions s
WHERE kind = 'finish' AND state IN ('cancelled', 'dead') AND s.id = jobs.session_id AND s.run = jobs.run
  AND s.status IN ('pending', 'in_progress', 'paused');
ALTER TABLE sync_sessions FORCE ROW LEVEL SECURITY;
ALTER TABLE jobs FORCE ROW LEVEL SECURITY;
-- Not for what is past.
ALTER TABLE jobs ADD CONSTRAINT jobs_finish_check CHECK (kind <> 'finish' OR state IN ('ready', 'running', 'done')) NOT VALID;
