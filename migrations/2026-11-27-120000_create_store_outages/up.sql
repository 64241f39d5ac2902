-- The sessions whose jobs the store has failed, with nothing delivered between, and since when. While a session is
-- here, its error_code and error_detail say what it waits for.
CREATE TABLE store_outages (
    session_id uuid PRIMARY KEY,
    company_id uuid NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (company_id, session_id) REFERENCES sync_sessions (company_id, id) ON DELETE CASCADE
);
SELECT protect_tenant_table('store_outages');
GRANT SELECT, INSERT, DELETE ON store_outages TO uploader_tenant;
