-- The keys that sign a company's receipts (Ed25519). One of them signs; the others still tell what they signed.
CREATE TABLE receipt_keys (
    id uuid PRIMARY KEY,
    company_id uuid NOT NULL REFERENCES companies ON DELETE CASCADE,
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
    -- Sealed with SECRETS_KEY, bound to (company_id, id).
    private_key_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    UNIQUE (company_id, id)
);
CREATE UNIQUE INDEX receipt_keys_signing_key ON receipt_keys (company_id) WHERE retired_at IS NULL;
SELECT protect_tenant_table('receipt_keys');
GRANT SELECT, INSERT ON receipt_keys TO uploader_tenant;

-- What the receipt of a session's last run that came to its end says, but for its files: those are read from
-- file_uploads, so that a receipt can be written again at any time, to the byte.
CREATE TABLE receipts (
    session_id uuid PRIMARY KEY,
    company_id uuid NOT NULL,
    run integer NOT NULL,
    -- What the session ends as: once its receipt is begun, nothing changes that.
    status text NOT NULL CHECK (status IN ('completed', 'completed_with_errors')),
    -- In its canonical form.
    header text NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    -- Once all files were read: null until then, and where it could not be signed.
    key_id uuid,
    root bytea CHECK (octet_length(root) = 32),
    signature bytea CHECK (octet_length(signature) = 64),
    size_bytes bigint,
    FOREIGN KEY (company_id, session_id) REFERENCES sync_sessions (company_id, id) ON DELETE CASCADE,
    FOREIGN KEY (company_id, key_id) REFERENCES receipt_keys (company_id, id),
    CHECK ((key_id IS NULL) = (root IS NULL) AND (root IS NULL) = (signature IS NULL)
           AND (root IS NULL) = (size_bytes IS NULL))
);
SELECT protect_tenant_table('receipts');
GRANT SELECT, INSERT, UPDATE, DELETE ON receipts TO uploader_tenant;
