//! The client against real servers: the same cases on our own development server, on moto, and over TLS; and
//! against servers that misbehave in one way each.

// What is shared between tests is a test as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod faults;
mod faulty;
mod multipart;
mod servers;
mod settling;

/// Runs every case as a test of its own against one server.
macro_rules! against {
    ($server:ident: $($group:ident::$case:ident),* $(,)?) => {
        mod $server {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::$group::$case(&crate::servers::$server().await).await;
                }
            )*
        }
    };
}

against!(
    ours: cases::odd_keys_arrive_exactly,
    cases::control_characters_arrive_exactly,
    cases::an_empty_object_is_an_object,
    cases::every_checksum_kind_is_confirmed,
    cases::a_wrong_checksum_is_refused,
    cases::metadata_and_token_come_back,
    cases::nothing_is_overwritten_when_forbidden,
    cases::a_long_listing_comes_in_pages,
    multipart::a_multipart_upload_becomes_one_object,
    multipart::a_multipart_upload_is_kept_until_aborted,
    multipart::many_parts_are_listed_in_pages,
    cases::what_is_missing_is_named,
    cases::refused_credentials_are_permanent,
);
against!(
    moto: cases::odd_keys_arrive_exactly,
    cases::an_empty_object_is_an_object,
    cases::every_checksum_kind_is_confirmed,
    cases::metadata_and_token_come_back,
    cases::a_long_listing_comes_in_pages,
    multipart::a_multipart_upload_becomes_one_object,
    multipart::a_multipart_upload_is_kept_until_aborted,
    cases::what_is_missing_is_named,
);
against!(
    over_tls: cases::odd_keys_arrive_exactly,
    cases::control_characters_arrive_exactly,
    cases::an_empty_object_is_an_object,
    cases::every_checksum_kind_is_confirmed,
    cases::a_wrong_checksum_is_refused,
    cases::nothing_is_overwritten_when_forbidden,
    multipart::a_multipart_upload_becomes_one_object,
    cases::what_is_missing_is_named,
    cases::refused_credentials_are_permanent,
    cases::an_unknown_authority_is_not_trusted,
);
