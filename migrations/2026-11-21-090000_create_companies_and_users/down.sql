DROP TABLE refresh_tokens;
DROP POLICY own_company ON users;
DROP TABLE memberships;
DROP TABLE users;
DROP TABLE companies;
DROP FUNCTION protect_tenant_table(regclass, name);
DROP FUNCTION current_company();
REVOKE USAGE ON SCHEMA public FROM uploader_tenant, uploader_system;
-- The roles stay: other databases of the cluster may use them.
