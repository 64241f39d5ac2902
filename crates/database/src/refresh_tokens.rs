//! Refresh tokens: single use, in families. A family is one sign-in on one device; it ends at sign-out, at its
//! absolute age, or when a used token of it comes back.
//!
//! Every call takes `now`, so that ages can be tested. Tokens are known by their SHA-256 alone.

use crate::accounts::{self, SignedIn};
use crate::schema::refresh_tokens;
use crate::{DatabaseError, SystemConn};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::{CompanyId, UserId};
use uuid::Uuid;

/// How long after its use a token is taken for a repeated request, as long as its successor is unused: the answer
/// that carried the successor may have been lost.
pub const GRACE: TimeDelta = TimeDelta::seconds(10);

/// The tokens of a family, and only if it is of one person where that is told.
const OF_FAMILY: &str = "family_id = $2 AND ($3 IS NULL OR user_id = $3)";

/// A family to be opened with its first token.
#[derive(Debug)]
pub struct NewFamily<'a> {
    /// The company signed in to.
    pub company_id: CompanyId,
    /// Who.
    pub user_id: UserId,
    /// SHA-256 of the first token.
    pub token_hash: &'a [u8],
    /// When the first token expires, unused.
    pub expires_at: DateTime<Utc>,
    /// When the family ends, whatever happens.
    pub family_expires_at: DateTime<Utc>,
    /// What the device calls itself.
    pub user_agent: Option<&'a str>,
}

/// What became of a token that was presented.
#[derive(Debug)]
pub enum Rotation {
    /// It was good, and its successor is stored.
    Rotated {
        /// Who is signed in.
        signed_in: SignedIn,
        /// Their family.
        family_id: Uuid,
    },
    /// It was used before: the family has been ended.
    Replayed {
        /// The family that ended.
        family_id: Uuid,
    },
    /// Unknown, expired or ended, or its person may no longer sign in.
    Refused,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = refresh_tokens, check_for_backend(diesel::pg::Pg))]
struct Token {
    id: Uuid,
    family_id: Uuid,
    company_id: Uuid,
    user_id: Uuid,
    expires_at: DateTime<Utc>,
    family_expires_at: DateTime<Utc>,
    used_at: Option<DateTime<Utc>>,
    replaced_by: Option<Uuid>,
    revoked_at: Option<DateTime<Utc>>,
    user_agent: Option<String>,
}

/// Opens a family; gives its id, which access tokens carry.
///
/// # Errors
/// When the query fails.
pub async fn open_family(
    conn: &mut SystemConn,
    new: &NewFamily<'_>,
    now: DateTime<Utc>,
) -> Result<Uuid, DatabaseError> {
    let family_id = Uuid::now_v7();
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::id.eq(Uuid::now_v7()),
            refresh_tokens::family_id.eq(family_id),
            refresh_tokens::company_id.eq(new.company_id.0),
            refresh_tokens::user_id.eq(new.user_id.0),
            refresh_tokens::token_hash.eq(new.token_hash),
            refresh_tokens::created_at.eq(now),
            refresh_tokens::expires_at.eq(new.expires_at.min(new.family_expires_at)),
            refresh_tokens::family_expires_at.eq(new.family_expires_at),
            refresh_tokens::user_agent.eq(new.user_agent),
        ))
        .execute(conn.raw())
        .await?;
    Ok(family_id)
}

/// Exchanges the token of `token_hash` for the one of `successor_hash`, which lives for `lifetime`.
///
/// Within [`GRACE`] a used token is exchanged once more if its successor is unused; that successor is retired, so
/// that a family has one live token at any time.
///
/// # Errors
/// When a query fails. A refusal is no error, because what it changes must be committed.
pub async fn rotate(
    conn: &mut SystemConn,
    token_hash: &[u8],
    successor_hash: &[u8],
    lifetime: TimeDelta,
    now: DateTime<Utc>,
) -> Result<Rotation, DatabaseError> {
    let found: Option<Token> = refresh_tokens::table
        .filter(refresh_tokens::token_hash.eq(token_hash))
        .select(Token::as_select())
        .for_update()
        .first(conn.raw())
        .await
        .optional()?;
    let Some(token) = found else {
        return Ok(Rotation::Refused);
    };
    if token.family_expires_at <= now {
        return Ok(Rotation::Refused);
    }
    if token.revoked_at.is_some() || (token.used_at.is_some() && !retire_successor(conn, &token, now).await?)
    {
        revoke_family(conn, token.family_id, now).await?;
        return Ok(Rotation::Replayed {
            family_id: token.family_id,
        });
    }
    if token.used_at.is_none() && token.expires_at <= now {
        return Ok(Rotation::Refused);
    }
    let (user_id, company_id) = (UserId(token.user_id), CompanyId(token.company_id));
    let signed_in = accounts::signed_in(conn, user_id, company_id, token.family_id, now).await?;
    let Some(signed_in) = signed_in else {
        return Ok(Rotation::Refused);
    };
    let successor = Uuid::now_v7();
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::id.eq(successor),
            refresh_tokens::family_id.eq(token.family_id),
            refresh_tokens::company_id.eq(token.company_id),
            refresh_tokens::user_id.eq(token.user_id),
            refresh_tokens::token_hash.eq(successor_hash),
            refresh_tokens::created_at.eq(now),
            refresh_tokens::expires_at.eq((now + lifetime).min(token.family_expires_at)),
            refresh_tokens::family_expires_at.eq(token.family_expires_at),
            refresh_tokens::user_agent.eq(token.user_agent),
        ))
        .execute(conn.raw())
        .await?;
    diesel::update(refresh_tokens::table.find(token.id))
        .set((
            refresh_tokens::used_at.eq(token.used_at.unwrap_or(now)),
            refresh_tokens::replaced_by.eq(successor),
        ))
        .execute(conn.raw())
        .await?;
    Ok(Rotation::Rotated {
        signed_in,
        family_id: token.family_id,
    })
}

/// Retires the unused successor of a token used a moment ago; whether there was such a one.
async fn retire_successor(
    conn: &mut SystemConn,
    token: &Token,
    now: DateTime<Utc>,
) -> Result<bool, DatabaseError> {
    let (Some(used_at), Some(successor)) = (token.used_at, token.replaced_by) else {
        return Ok(false);
    };
    if now - used_at > GRACE {
        return Ok(false);
    }
    let unused = refresh_tokens::table.find(successor).filter(
        refresh_tokens::used_at
            .is_null()
            .and(refresh_tokens::revoked_at.is_null()),
    );
    let retired = diesel::update(unused)
        .set(refresh_tokens::revoked_at.eq(now))
        .execute(conn.raw())
        .await?;
    Ok(retired == 1)
}

/// Revokes the tokens of which `whose` is true, `$2` and `$3` being these ids; gives how many there were. Until there is none
/// left: a refresh that is just being committed adds a token that the statement which waits for it does not see.
async fn revoke(
    conn: &mut SystemConn,
    whose: &str,
    ids: (Uuid, Option<Uuid>),
    now: DateTime<Utc>,
) -> Result<usize, DatabaseError> {
    let statement = format!("UPDATE refresh_tokens SET revoked_at = $1 WHERE revoked_at IS NULL AND {whose}");
    let mut revoked = 0;
    loop {
        let round = sql_query(statement.as_str())
            .bind::<Timestamptz, _>(now)
            .bind::<SqlUuid, _>(ids.0)
            .bind::<Nullable<SqlUuid>, _>(ids.1)
            .execute(conn.raw())
            .await?;
        if round == 0 {
            return Ok(revoked);
        }
        revoked += round;
    }
}

/// Ends a family that still lives, so that another goes on in its place; gives when it would have ended by its age. `None`:
/// it lives no more.
///
/// # Errors
/// When a query fails.
pub async fn replace_family(
    conn: &mut SystemConn,
    family_id: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, DatabaseError> {
    let family_expires_at: Option<DateTime<Utc>> = refresh_tokens::table
        .filter(refresh_tokens::family_id.eq(family_id))
        .filter(refresh_tokens::revoked_at.is_null())
        .filter(refresh_tokens::family_expires_at.gt(now))
        .select(refresh_tokens::family_expires_at)
        .for_update()
        .first(conn.raw())
        .await
        .optional()?;
    if family_expires_at.is_some() {
        revoke_family(conn, family_id, now).await?;
    }
    Ok(family_expires_at)
}

/// Ends a family. Ending it again changes nothing.
///
/// # Errors
/// When the query fails.
pub async fn revoke_family(
    conn: &mut SystemConn,
    family_id: Uuid,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    revoke(conn, OF_FAMILY, (family_id, None), now).await?;
    Ok(())
}

/// A family as its person sees it: a device on which they are signed in.
#[derive(Debug, QueryableByName)]
pub struct Family {
    /// What access tokens carry.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The company signed in to.
    #[diesel(sql_type = SqlUuid)]
    pub company_id: Uuid,
    /// Its name.
    #[diesel(sql_type = Text)]
    pub company_name: String,
    /// What the device calls itself.
    #[diesel(sql_type = Nullable<Text>)]
    pub user_agent: Option<String>,
    /// When it was opened.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When its present token was given out.
    #[diesel(sql_type = Timestamptz)]
    pub last_used_at: DateTime<Utc>,
    /// When that token expires.
    #[diesel(sql_type = Timestamptz)]
    pub expires_at: DateTime<Utc>,
}

/// A person's living families, in all companies, the latest first, from `after` on.
///
/// # Errors
/// When the query fails.
pub async fn families(
    conn: &mut SystemConn,
    user_id: UserId,
    after: Option<Uuid>,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Family>, DatabaseError> {
    Ok(sql_query(
        // A family that lives has one token that can be used.
        "SELECT t.family_id AS id, t.company_id, c.company_name, t.user_agent, t.created_at AS last_used_at, t.expires_at,
                (SELECT min(f.created_at) FROM refresh_tokens f WHERE f.family_id = t.family_id) AS created_at
         FROM refresh_tokens t JOIN companies c ON c.id = t.company_id
         WHERE t.user_id = $1 AND t.used_at IS NULL AND t.revoked_at IS NULL AND t.expires_at > $2
           AND ($3 IS NULL OR t.family_id < $3)
         ORDER BY t.family_id DESC LIMIT $4",
    )
    .bind::<SqlUuid, _>(user_id.0)
    .bind::<Timestamptz, _>(now)
    .bind::<Nullable<SqlUuid>, _>(after)
    .bind::<BigInt, _>(limit)
    .load(conn.raw())
    .await?)
}

/// Ends a family of this person; whether there was one to end.
///
/// # Errors
/// When the query fails.
pub async fn revoke_own_family(
    conn: &mut SystemConn,
    user_id: UserId,
    family_id: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, DatabaseError> {
    Ok(revoke(conn, OF_FAMILY, (family_id, Some(user_id.0)), now).await? > 0)
}

/// The family of a token, whatever its age.
///
/// # Errors
/// When the query fails; of an unknown token it is `None`.
pub async fn family_of(conn: &mut SystemConn, token_hash: &[u8]) -> Result<Option<Uuid>, DatabaseError> {
    Ok(refresh_tokens::table
        .filter(refresh_tokens::token_hash.eq(token_hash))
        .select(refresh_tokens::family_id)
        .first(conn.raw())
        .await
        .optional()?)
}

/// Ends the family of a token, whatever its age. An unknown token changes nothing.
///
/// # Errors
/// When a query fails.
pub async fn revoke_family_of(
    conn: &mut SystemConn,
    token_hash: &[u8],
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    match family_of(conn, token_hash).await? {
        Some(family_id) => revoke_family(conn, family_id, now).await,
        None => Ok(()),
    }
}

/// Ends every family of a person, in all companies, but for `except`.
///
/// # Errors
/// When the query fails.
pub async fn revoke_user(
    conn: &mut SystemConn,
    user_id: UserId,
    except: Option<Uuid>,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    let whose = "user_id = $2 AND ($3 IS NULL OR family_id <> $3)";
    revoke(conn, whose, (user_id.0, except), now).await?;
    Ok(())
}

/// Ends every family of a person in one company.
///
/// # Errors
/// When the query fails.
pub async fn revoke_member(
    conn: &mut SystemConn,
    company_id: CompanyId,
    user_id: UserId,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    let whose = "user_id = $2 AND company_id = $3";
    revoke(conn, whose, (user_id.0, Some(company_id.0)), now).await?;
    Ok(())
}
