//! A sign-out ends all tokens of its sign-in, whatever happens at the same moment.

use crate::fixture::Fixture;
use chrono::{TimeDelta, Utc};
use database::refresh_tokens::{self, NewFamily, Rotation};
use database::{DatabaseError, SystemConn};
use domain::{CompanyId, UserId};
use std::cell::Cell;
use tokio::sync::oneshot;
use uuid::Uuid;

const WAITS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Somebody signed in, with a token of this hash.
async fn signed_in(fixture: &Fixture, token_hash: [u8; 32]) -> (UserId, Uuid) {
    let (user_id, company_id) = (UserId::new(), fixture.company);
    fixture
        .sql(&format!(
            "INSERT INTO users (id, username, email, password_hash) VALUES ('{user_id}', 'vera', 'v@x', '');
             INSERT INTO memberships (company_id, user_id, role) VALUES ('{company_id}', '{user_id}', 'member')"
        ))
        .await;
    let now = Utc::now();
    let open = async move |conn: &mut SystemConn| {
        let family = NewFamily {
            company_id,
            user_id,
            token_hash: &token_hash,
            expires_at: now + TimeDelta::days(1),
            family_expires_at: now + TimeDelta::days(2),
            user_agent: None,
        };
        refresh_tokens::open_family(conn, &family, now).await
    };
    (user_id, fixture.db.system(open).await.unwrap())
}

#[derive(Clone, Copy, Debug)]
enum How {
    Family,
    OwnFamily,
    User,
    Member,
    Replaced,
}

async fn sign_out(
    conn: &mut SystemConn,
    how: How,
    (company, user, family): (CompanyId, UserId, Uuid),
) -> Result<(), DatabaseError> {
    let now = Utc::now();
    match how {
        How::Family => refresh_tokens::revoke_family(conn, family, now).await,
        How::OwnFamily => {
            let ended = refresh_tokens::revoke_own_family(conn, user, family, now).await;
            ended.map(|ended| assert!(ended))
        }
        How::User => refresh_tokens::revoke_user(conn, user, None, now).await,
        How::Member => refresh_tokens::revoke_member(conn, company, user, now).await,
        How::Replaced => {
            let replaced = refresh_tokens::replace_family(conn, family, now).await;
            replaced.map(|ends_at| assert!(ends_at.is_some()))
        }
    }
}

#[tokio::test]
async fn a_token_that_is_exchanged_at_that_moment_ends_as_well() {
    for how in [How::Family, How::OwnFamily, How::User, How::Member, How::Replaced] {
        let fixture = Fixture::new().await;
        let (user, family) = signed_in(&fixture, [1; 32]).await;
        let whose = (fixture.company, user, family);
        let (has_exchanged, exchanged) = oneshot::channel();
        let (may_commit, commit) = oneshot::channel();
        let refresh = fixture.db.system(async move |conn: &mut SystemConn| {
            let (lifetime, now) = (TimeDelta::days(1), Utc::now());
            let rotation = refresh_tokens::rotate(conn, &[1; 32], &[2; 32], lifetime, now).await?;
            has_exchanged.send(()).unwrap();
            commit.await.unwrap();
            Ok::<_, DatabaseError>(matches!(rotation, Rotation::Rotated { .. }))
        });
        let is_out = Cell::new(false);
        let sign_out = async {
            exchanged.await.unwrap();
            let out = async move |conn: &mut SystemConn| sign_out(conn, how, whose).await;
            fixture.db.system(out).await.unwrap();
            is_out.set(true);
        };
        let watch = async {
            while !is_out.get() && fixture.sql(WAITS).await == "0" {}
            may_commit.send(()).unwrap();
        };
        let (refreshed, (), ()) = tokio::join!(refresh, sign_out, watch);
        assert!(refreshed.unwrap());
        let living = "SELECT count(*) FROM refresh_tokens WHERE revoked_at IS NULL";
        assert_eq!(fixture.sql(living).await, "0", "{how:?}");
    }
}

#[tokio::test]
async fn a_sign_in_that_has_ended_is_not_replaced() {
    let fixture = Fixture::new().await;
    let (_, family) = signed_in(&fixture, [1; 32]).await;
    let replace = async |now| {
        let replaced =
            async move |conn: &mut SystemConn| refresh_tokens::replace_family(conn, family, now).await;
        fixture.db.system(replaced).await.unwrap()
    };
    assert_eq!(replace(Utc::now() + TimeDelta::days(2)).await, None, "by its age");
    assert!(replace(Utc::now()).await.is_some());
    assert_eq!(replace(Utc::now()).await, None);
}
