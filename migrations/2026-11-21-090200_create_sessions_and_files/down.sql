DROP TABLE file_uploads;
DROP TABLE sync_sessions;
DROP FUNCTION delete_files_of_session();
DROP FUNCTION ensure_file_partitions(integer);
DROP FUNCTION uuid7_floor(timestamptz);
