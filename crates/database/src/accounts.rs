//! People as sign-in sees them: across companies, with their password hashes and all their memberships.
//! A company's own view of its people is in [`crate::members`].

use crate::schema::{memberships, users};
use crate::{DatabaseError, SystemConn};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::{CompanyId, Role, UserId};
use uuid::Uuid;

diesel::define_sql_function! {
    /// Postgres' `lower`, which the unique indexes on names use.
    fn lower(text: Text) -> Text;
}

/// A person, without the password hash.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = users, check_for_backend(diesel::pg::Pg))]
pub struct User {
    /// Its id.
    #[diesel(deserialize_as = Uuid)]
    pub id: UserId,
    /// The name to sign in with; unique whatever the case.
    pub username: String,
    /// Unique whatever the case.
    pub email: String,
    /// As the person writes it; may be empty.
    pub full_name: String,
    /// Manages companies, and sees across them.
    pub is_platform_admin: bool,
    /// Whether the person may sign in at all.
    pub is_active: bool,
    /// Whether the password must be changed before anything else.
    pub must_change_password: bool,
    /// The last sign-in with the password.
    pub last_login_at: Option<DateTime<Utc>>,
    /// When the person was entered.
    pub created_at: DateTime<Utc>,
}

/// What a sign-in is checked against.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who it is.
    pub user: User,
    /// bcrypt.
    pub password_hash: String,
}

/// A person's place in one company.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The company.
    pub company_id: CompanyId,
    /// Its name.
    pub company_name: String,
    /// Its code.
    pub company_code: String,
    /// The person's role there.
    pub role: Role,
}

/// Who stands behind an access token, as things are now.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The person.
    pub user: User,
    /// The company the token is for, and the role there.
    pub membership: Membership,
}

/// A person to be entered.
#[derive(Debug)]
pub struct NewUser<'a> {
    /// The name to sign in with.
    pub username: &'a str,
    /// E-mail address.
    pub email: &'a str,
    /// May be empty.
    pub full_name: &'a str,
    /// bcrypt.
    pub password_hash: &'a str,
    /// Manages companies.
    pub is_platform_admin: bool,
    /// Whether the password must be changed first.
    pub must_change_password: bool,
}

#[derive(QueryableByName)]
struct MembershipRow {
    #[diesel(sql_type = SqlUuid)]
    company_id: Uuid,
    #[diesel(sql_type = Text)]
    company_name: String,
    #[diesel(sql_type = Text)]
    company_code: String,
    #[diesel(sql_type = Text)]
    role: String,
}

impl TryFrom<MembershipRow> for Membership {
    type Error = DatabaseError;

    fn try_from(row: MembershipRow) -> Result<Self, DatabaseError> {
        Ok(Self {
            company_id: CompanyId(row.company_id),
            company_name: row.company_name,
            company_code: row.company_code,
            role: row.role.parse()?,
        })
    }
}

/// Whether anybody has been entered yet.
///
/// # Errors
/// When the query fails.
pub async fn any_user(conn: &mut SystemConn) -> Result<bool, DatabaseError> {
    Ok(
        diesel::select(diesel::dsl::exists(users::table.select(users::id)))
            .get_result(conn.raw())
            .await?,
    )
}

/// The person of that username, or else of that e-mail address, active or not.
///
/// # Errors
/// When the query fails; nobody is `None`.
pub async fn credentials(conn: &mut SystemConn, name: &str) -> Result<Option<Credentials>, DatabaseError> {
    let by_username = lower(users::username).eq(lower(name));
    let found: Option<(User, String)> = users::table
        .filter(by_username.or(lower(users::email).eq(lower(name))))
        .order(by_username.desc())
        .select((User::as_select(), users::password_hash))
        .first(conn.raw())
        .await
        .optional()?;
    Ok(found.map(|(user, password_hash)| Credentials { user, password_hash }))
}

/// As [`credentials`], of one person known already.
///
/// # Errors
/// [`DatabaseError::NotFound`] for nobody.
pub async fn credentials_of(conn: &mut SystemConn, user_id: UserId) -> Result<Credentials, DatabaseError> {
    let (user, password_hash) = users::table
        .find(user_id.0)
        .select((User::as_select(), users::password_hash))
        .first(conn.raw())
        .await?;
    Ok(Credentials { user, password_hash })
}

/// A person's active memberships in active companies, the oldest first.
///
/// # Errors
/// When the query fails.
pub async fn memberships(conn: &mut SystemConn, user_id: UserId) -> Result<Vec<Membership>, DatabaseError> {
    let rows: Vec<MembershipRow> = sql_query(
        "SELECT m.company_id, c.company_name, c.company_code, m.role
         FROM memberships m JOIN companies c ON c.id = m.company_id
         WHERE m.user_id = $1 AND m.is_active AND c.is_active ORDER BY m.created_at, m.company_id",
    )
    .bind::<SqlUuid, _>(user_id.0)
    .load(conn.raw())
    .await?;
    rows.into_iter().map(Membership::try_from).collect()
}

/// The person of an access token, if the token still counts: its family (`family_id`) is neither revoked nor
/// expired, and person, membership and company are active.
///
/// # Errors
/// When the query fails; a token that no longer counts is `None`.
pub async fn signed_in(
    conn: &mut SystemConn,
    user_id: UserId,
    company_id: CompanyId,
    family_id: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<SignedIn>, DatabaseError> {
    let row: Option<MembershipRow> = sql_query(
        "SELECT m.company_id, c.company_name, c.company_code, m.role
         FROM memberships m JOIN companies c ON c.id = m.company_id
         WHERE m.user_id = $1 AND m.company_id = $2 AND m.is_active AND c.is_active
           AND EXISTS (SELECT FROM refresh_tokens t WHERE t.family_id = $3 AND t.user_id = $1 AND t.company_id = $2
                       AND t.revoked_at IS NULL AND t.family_expires_at > $4)",
    )
    .bind::<SqlUuid, _>(user_id.0)
    .bind::<SqlUuid, _>(company_id.0)
    .bind::<SqlUuid, _>(family_id)
    .bind::<Timestamptz, _>(now)
    .get_result(conn.raw())
    .await
    .optional()?;
    let Some(row) = row else { return Ok(None) };
    let user: Option<User> = users::table
        .find(user_id.0)
        .filter(users::is_active)
        .select(User::as_select())
        .first(conn.raw())
        .await
        .optional()?;
    let membership = row.try_into()?;
    Ok(user.map(|user| SignedIn { user, membership }))
}

/// Notes a sign-in with the password.
///
/// # Errors
/// When the query fails.
pub async fn record_login(
    conn: &mut SystemConn,
    user_id: UserId,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    diesel::update(users::table.find(user_id.0))
        .set(users::last_login_at.eq(now))
        .execute(conn.raw())
        .await?;
    Ok(())
}

/// Replaces a person's password by one of their own choice.
///
/// # Errors
/// When the query fails.
pub async fn set_password(
    conn: &mut SystemConn,
    user_id: UserId,
    password_hash: &str,
) -> Result<(), DatabaseError> {
    diesel::update(users::table.find(user_id.0))
        .set((
            users::password_hash.eq(password_hash),
            users::must_change_password.eq(false),
            users::updated_at.eq(diesel::dsl::now),
        ))
        .execute(conn.raw())
        .await?;
    Ok(())
}

/// Enters a person, as a member of no company yet.
///
/// # Errors
/// [`DatabaseError::Conflict`] with `users_username_key` or `users_email_key`.
pub async fn create_user(conn: &mut SystemConn, new: &NewUser<'_>) -> Result<UserId, DatabaseError> {
    let id = UserId::new();
    diesel::insert_into(users::table)
        .values((
            users::id.eq(id.0),
            users::username.eq(new.username),
            users::email.eq(new.email),
            users::full_name.eq(new.full_name),
            users::password_hash.eq(new.password_hash),
            users::is_platform_admin.eq(new.is_platform_admin),
            users::must_change_password.eq(new.must_change_password),
        ))
        .execute(conn.raw())
        .await?;
    Ok(id)
}

/// Makes a person a member of a company.
///
/// # Errors
/// [`DatabaseError::Conflict`] when one of them is unknown or the membership exists.
pub async fn add_membership(
    conn: &mut SystemConn,
    company_id: CompanyId,
    user_id: UserId,
    role: Role,
) -> Result<(), DatabaseError> {
    diesel::insert_into(memberships::table)
        .values((
            memberships::company_id.eq(company_id.0),
            memberships::user_id.eq(user_id.0),
            memberships::role.eq(role.as_str()),
        ))
        .execute(conn.raw())
        .await?;
    Ok(())
}

/// Whether any of a person's memberships is in another company than `company_id`.
///
/// # Errors
/// When the query fails.
pub async fn belongs_elsewhere(
    conn: &mut SystemConn,
    user_id: UserId,
    company_id: CompanyId,
) -> Result<bool, DatabaseError> {
    let elsewhere = memberships::table.filter(
        memberships::user_id
            .eq(user_id.0)
            .and(memberships::company_id.ne(company_id.0)),
    );
    Ok(diesel::select(diesel::dsl::exists(elsewhere))
        .get_result(conn.raw())
        .await?)
}

/// Changes a person's name or address, which are the same in every company. A username that is the address remains it:
/// nobody else's address may be one.
///
/// # Errors
/// [`DatabaseError::Conflict`] with `users_email_key` or `users_username_key`.
pub async fn update_profile(
    conn: &mut SystemConn,
    user_id: UserId,
    email: Option<&str>,
    full_name: Option<&str>,
) -> Result<(), DatabaseError> {
    sql_query(
        "UPDATE users SET email = coalesce($2, email), full_name = coalesce($3, full_name), updated_at = now(),
                          username = CASE WHEN lower(username) = lower(email) THEN coalesce($2, username) ELSE username END
         WHERE id = $1",
    )
    .bind::<SqlUuid, _>(user_id.0)
    .bind::<Nullable<Text>, _>(email)
    .bind::<Nullable<Text>, _>(full_name)
    .execute(conn.raw())
    .await?;
    Ok(())
}

/// Lets one gateway at a time look whether there is anybody, until the transaction ends.
///
/// # Errors
/// When the query fails.
pub async fn lock_first_start(conn: &mut SystemConn) -> Result<(), DatabaseError> {
    /// "first" in ASCII.
    const LOCK_KEY: i64 = 0x66_6972_7374;
    sql_query("SELECT pg_advisory_xact_lock($1)")
        .bind::<diesel::sql_types::BigInt, _>(LOCK_KEY)
        .execute(conn.raw())
        .await?;
    Ok(())
}
