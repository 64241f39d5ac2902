-- The two roles that everything goes through. They belong to the whole cluster, so that they may exist already
-- (another database of it), and may be made by somebody else at this very moment.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['uploader_tenant', 'uploader_system'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT NOBYPASSRLS', wanted);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA public TO uploader_tenant, uploader_system;

-- The company of the present scope; null outside one, which no row's company equals.
CREATE FUNCTION current_company() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.company', true), '')::uuid;

-- Closes a tenant table: the tenant role sees the rows of its company, the system role all, anybody else none
-- (the owner included, which is why it is forced).
CREATE FUNCTION protect_tenant_table(table_name regclass, company_column name DEFAULT 'company_id') RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', table_name);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', table_name);
    EXECUTE format(
        'CREATE POLICY own_company ON %s TO uploader_tenant USING (%2$I = current_company()) WITH CHECK (%2$I = current_company())',
        table_name, company_column);
    EXECUTE format('CREATE POLICY every_company ON %s TO uploader_system USING (true) WITH CHECK (true)', table_name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO uploader_system', table_name);
END
$$;

CREATE TABLE companies (
    id uuid PRIMARY KEY,
    company_name text NOT NULL CHECK (company_name <> ''),
    company_code text NOT NULL CHECK (company_code ~ '^[A-Z0-9][A-Z0-9_-]{0,31}$'),
    contact_email text,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (company_code)
);
SELECT protect_tenant_table('companies', 'id');
GRANT SELECT, UPDATE ON companies TO uploader_tenant;

-- A person; global, because one person may belong to several companies.
CREATE TABLE users (
    id uuid PRIMARY KEY,
    username text NOT NULL CHECK (username <> ''),
    email text NOT NULL,
    full_name text NOT NULL DEFAULT '',
    password_hash text NOT NULL,
    is_platform_admin boolean NOT NULL DEFAULT false,
    is_active boolean NOT NULL DEFAULT true,
    must_change_password boolean NOT NULL DEFAULT false,
    last_login_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_username_key ON users (lower(username));
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

CREATE TABLE memberships (
    company_id uuid NOT NULL REFERENCES companies ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (company_id, user_id)
);
CREATE INDEX memberships_user_idx ON memberships (user_id);
SELECT protect_tenant_table('memberships');
GRANT SELECT, INSERT, UPDATE, DELETE ON memberships TO uploader_tenant;

-- A company reaches the people who belong to it, and never their passwords.
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
CREATE POLICY own_company ON users FOR SELECT TO uploader_tenant
    USING (EXISTS (SELECT FROM memberships m WHERE m.user_id = users.id AND m.company_id = current_company()));
CREATE POLICY every_company ON users TO uploader_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON users TO uploader_system;
GRANT SELECT (id, username, email, full_name, is_platform_admin, is_active, must_change_password, last_login_at, created_at, updated_at)
    ON users TO uploader_tenant;

-- One row per token ever issued in a family (a signed-in device): the family ends when a used one comes back.
CREATE TABLE refresh_tokens (
    id uuid PRIMARY KEY,
    family_id uuid NOT NULL,
    company_id uuid NOT NULL,
    user_id uuid NOT NULL,
    token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    family_expires_at timestamptz NOT NULL,
    used_at timestamptz,
    replaced_by uuid,
    revoked_at timestamptz,
    user_agent text,
    FOREIGN KEY (company_id, user_id) REFERENCES memberships (company_id, user_id) ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_family_idx ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_member_idx ON refresh_tokens (company_id, user_id);
-- No grant to the tenant role: tokens are a matter of signing in, which belongs to no company's scope.
SELECT protect_tenant_table('refresh_tokens');
