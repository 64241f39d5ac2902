// @generated automatically by Diesel CLI.

diesel::table! {
    companies (id) {
        id -> Uuid,
        company_name -> Text,
        company_code -> Text,
        contact_email -> Nullable<Text>,
        is_active -> Bool,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        max_concurrent_jobs -> Nullable<Int4>,
    }
}

diesel::table! {
    cycles (id) {
        id -> Uuid,
        company_id -> Uuid,
        project_id -> Uuid,
        cycle_number -> Int4,
        cycle_name -> Text,
        s3_prefix -> Text,
        description -> Text,
        status -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        completed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    file_uploads (session_id, number) {
        session_id -> Uuid,
        number -> Int8,
        company_id -> Uuid,
        path -> Text,
        path_is_encoded -> Bool,
        size_bytes -> Int8,
        modified_at -> Nullable<Timestamptz>,
        status -> Text,
        attempts -> Int4,
        etag -> Nullable<Text>,
        checksum -> Nullable<Text>,
        error_code -> Nullable<Text>,
        error_detail -> Nullable<Text>,
        upload_id -> Nullable<Text>,
        part_size_bytes -> Nullable<Int8>,
        started_at -> Nullable<Timestamptz>,
        finished_at -> Nullable<Timestamptz>,
        planned -> Nullable<Text>,
    }
}

diesel::table! {
    jobs (id) {
        id -> Int8,
        company_id -> Uuid,
        session_id -> Uuid,
        run -> Int4,
        location -> Text,
        kind -> Text,
        state -> Text,
        epoch -> Int4,
        worker_id -> Nullable<Text>,
        lease_until -> Nullable<Timestamptz>,
        run_after -> Timestamptz,
        errors -> Int4,
        crashes -> Int4,
        last_error -> Nullable<Text>,
        pushed_at -> Nullable<Timestamptz>,
        suspect_file -> Nullable<Int8>,
        first_number -> Nullable<Int8>,
        last_number -> Nullable<Int8>,
        created_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    memberships (company_id, user_id) {
        company_id -> Uuid,
        user_id -> Uuid,
        role -> Text,
        is_active -> Bool,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    projects (id) {
        id -> Uuid,
        company_id -> Uuid,
        name -> Text,
        description -> Text,
        bucket -> Text,
        region -> Text,
        endpoint_url -> Nullable<Text>,
        prefix -> Text,
        aws_profile -> Nullable<Text>,
        credentials_sealed -> Nullable<Bytea>,
        storage_class -> Nullable<Text>,
        visibility -> Text,
        is_active -> Bool,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        leftovers_checked_at -> Timestamptz,
    }
}

diesel::table! {
    receipt_keys (id) {
        id -> Uuid,
        company_id -> Uuid,
        public_key -> Bytea,
        private_key_sealed -> Bytea,
        created_at -> Timestamptz,
        retired_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    receipts (session_id) {
        session_id -> Uuid,
        company_id -> Uuid,
        run -> Int4,
        status -> Text,
        header -> Text,
        begun_at -> Timestamptz,
        key_id -> Nullable<Uuid>,
        root -> Nullable<Bytea>,
        signature -> Nullable<Bytea>,
        size_bytes -> Nullable<Int8>,
    }
}

diesel::table! {
    refresh_tokens (id) {
        id -> Uuid,
        family_id -> Uuid,
        company_id -> Uuid,
        user_id -> Uuid,
        token_hash -> Bytea,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        family_expires_at -> Timestamptz,
        used_at -> Nullable<Timestamptz>,
        replaced_by -> Nullable<Uuid>,
        revoked_at -> Nullable<Timestamptz>,
        user_agent -> Nullable<Text>,
    }
}

diesel::table! {
    session_plans (session_id) {
        session_id -> Uuid,
        company_id -> Uuid,
        run -> Int4,
        files_excluded -> Int8,
        directories_excluded -> Int8,
        list_requests -> Int8,
        plan -> Nullable<Jsonb>,
    }
}

diesel::table! {
    store_outages (session_id) {
        session_id -> Uuid,
        company_id -> Uuid,
        since -> Timestamptz,
    }
}

diesel::table! {
    sync_sessions (id) {
        id -> Uuid,
        company_id -> Uuid,
        project_id -> Uuid,
        cycle_id -> Uuid,
        user_id -> Uuid,
        source_root -> Text,
        source_path -> Text,
        settings -> Jsonb,
        key_prefix -> Text,
        status -> Text,
        stop_flag -> Text,
        run -> Int4,
        open_jobs -> Int4,
        scan_complete -> Bool,
        files_total -> Int8,
        files_uploaded -> Int8,
        files_skipped -> Int8,
        files_failed -> Int8,
        files_cancelled -> Int8,
        bytes_total -> Int8,
        bytes_uploaded -> Int8,
        bytes_skipped -> Int8,
        bytes_failed -> Int8,
        error_code -> Nullable<Text>,
        error_detail -> Nullable<Text>,
        repeats -> Nullable<Uuid>,
        created_at -> Timestamptz,
        queued_at -> Nullable<Timestamptz>,
        started_at -> Nullable<Timestamptz>,
        finished_at -> Nullable<Timestamptz>,
        files_dropped_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    users (id) {
        id -> Uuid,
        username -> Text,
        email -> Text,
        full_name -> Text,
        password_hash -> Text,
        is_platform_admin -> Bool,
        is_active -> Bool,
        must_change_password -> Bool,
        last_login_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::joinable!(memberships -> companies (company_id));
diesel::joinable!(memberships -> users (user_id));
diesel::joinable!(projects -> companies (company_id));
diesel::joinable!(receipt_keys -> companies (company_id));

diesel::allow_tables_to_appear_in_same_query!(
    companies,
    cycles,
    file_uploads,
    jobs,
    memberships,
    projects,
    receipt_keys,
    receipts,
    refresh_tokens,
    session_plans,
    store_outages,
    sync_sessions,
    users,
);
