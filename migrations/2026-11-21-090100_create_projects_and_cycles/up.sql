CREATE TABLE projects (
    id uuid PRIMARY KEY,
    company_id uuid NOT NULL REFERENCES companies ON DELETE CASCADE,
    name text NOT NULL CHECK (name <> ''),
    description text NOT NULL DEFAULT '',
    bucket text NOT NULL CHECK (bucket <> ''),
    region text NOT NULL,
    endpoint_url text,
    prefix text NOT NULL DEFAULT '',
    aws_profile text,
    -- Sealed with SECRETS_KEY, bound to (company_id, id); null: the worker's own credentials.
    credentials_sealed bytea,
    storage_class text,
    visibility text NOT NULL DEFAULT 'company' CHECK (visibility IN ('company', 'restricted')),
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (company_id, id)
);
CREATE UNIQUE INDEX projects_name_key ON projects (company_id, lower(name));
SELECT protect_tenant_table('projects');
GRANT SELECT, INSERT, UPDATE, DELETE ON projects TO uploader_tenant;

CREATE TABLE cycles (
    id uuid PRIMARY KEY,
    company_id uuid NOT NULL,
    project_id uuid NOT NULL,
    cycle_number integer NOT NULL CHECK (cycle_number >= 1),
    cycle_name text NOT NULL,
    s3_prefix text NOT NULL,
    description text NOT NULL DEFAULT '',
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'in_progress', 'completed')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    UNIQUE (company_id, id),
    -- What sessions refer to, so that a session's project is its cycle's.
    UNIQUE (company_id, project_id, id),
    UNIQUE (project_id, cycle_number),
    FOREIGN KEY (company_id, project_id) REFERENCES projects (company_id, id) ON DELETE CASCADE
);
SELECT protect_tenant_table('cycles');
GRANT SELECT, INSERT, UPDATE, DELETE ON cycles TO uploader_tenant;
