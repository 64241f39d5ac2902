//! Passwords: which are accepted, and their bcrypt hashes.
//!
//! Hashing takes a good part of a second of one core by design, so it runs off the async threads and only on as
//! many cores as there are. Checking a password takes as long for an unknown user as for a known one.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// bcrypt's cost: 2^12 rounds.
pub const COST: u32 = 12;
/// The least bytes a password may have.
pub const MIN_BYTES: usize = 12;
/// The most bytes a password may have: bcrypt ignores what comes after.
pub const MAX_BYTES: usize = 72;

/// Passwords long enough that are the first to be tried, in lower case.
const REFUSED: &[&str] = &[
    "000000000000",
    "111111111111",
    "123123123123",
    "123456123456",
    "1234567890ab",
    "123456789012",
    "1234567890123",
    "12345678901234",
    "123456789abc",
    "1q2w3e4r5t6y",
    "1q2w3e4r5t6y7u",
    "1qaz2wsx3edc",
    "abc123abc123",
    "abcd1234abcd",
    "abcdefghijkl",
    "abcdefghijklm",
    "admin1234567",
    "admin12345678",
    "adminadminadmin",
    "administrator",
    "administrator1",
    "administrator123",
    "asdfghjkl123",
    "asdfasdfasdf",
    "change-me-please",
    "changeme12345",
    "changeme123456",
    "changeme1234",
    "changemechangeme",
    "changemenow!",
    "changemenow1",
    "changethis123",
    "correcthorsebatterystaple",
    "dataupload123",
    "datauploader",
    "datauploader1",
    "datauploader123",
    "default12345",
    "defaultpassword",
    "footballfootball",
    "iloveyou1234",
    "iloveyouiloveyou",
    "letmein12345",
    "letmeinletmein",
    "letmeinplease",
    "minioadminminioadmin",
    "mypassword123",
    "p@ssw0rd1234",
    "p@ssword1234",
    "passw0rd1234",
    "password1234",
    "password12345",
    "password123456",
    "password1234!",
    "password123!",
    "passwordpassword",
    "postgrespostgres",
    "q1w2e3r4t5y6",
    "qazwsxedcrfv",
    "qwerty123456",
    "qwertyqwerty",
    "qwertyuiop12",
    "qwertyuiop123",
    "qwertyuiop[]",
    "secret123456",
    "secretsecret",
    "secretpassword",
    "superadmin123",
    "superpassword",
    "superuser123",
    "temppassword",
    "testpassword",
    "testtesttest",
    "trustno1trustno1",
    "uploader1234",
    "uploaderuploader",
    "welcome12345",
    "welcome123456",
    "welcomewelcome",
    "zaq12wsxcde3",
    "zxcvbnm12345",
];

/// Why a password is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordProblem {
    /// Fewer than [`MIN_BYTES`].
    #[error("must have at least 12 bytes")]
    TooShort,
    /// More than [`MAX_BYTES`]. Refused rather than cut.
    #[error("must have at most 72 bytes")]
    TooLong,
    /// One of the first anybody would try.
    #[error("is too common")]
    TooCommon,
}

/// Whether a password may be set.
///
/// # Errors
/// The rule it breaks.
pub fn check(password: &str) -> Result<(), PasswordProblem> {
    if password.len() < MIN_BYTES {
        return Err(PasswordProblem::TooShort);
    }
    if password.len() > MAX_BYTES {
        return Err(PasswordProblem::TooLong);
    }
    let mut chars = password.chars();
    let first = chars.next();
    let one_char_repeated = chars.all(|char| Some(char) == first);
    if one_char_repeated || REFUSED.contains(&password.to_lowercase().as_str()) {
        return Err(PasswordProblem::TooCommon);
    }
    Ok(())
}

/// A password could not be hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It may not be set.
    #[error("the password {0}")]
    Refused(#[from] PasswordProblem),
    /// A stored hash is damaged, or the cost is out of range.
    #[error("password hashing failed: {0}")]
    Hash(#[from] bcrypt::BcryptError),
    /// The process is shutting down.
    #[error("password hashing was interrupted")]
    Interrupted,
}

/// Hashes and checks passwords, a bounded number at a time. Clones share the bound.
#[derive(Clone)]
pub struct Passwords {
    cost: u32,
    cores: Arc<Semaphore>,
    /// What the passwords of unknown users are checked against.
    nobodys_hash: Arc<str>,
}

impl Passwords {
    /// With [`COST`]. Hashes once, so takes its time: make one at the start.
    ///
    /// # Errors
    /// Where hashing fails.
    pub fn new() -> Result<Self, PasswordError> {
        Self::with_cost(COST)
    }

    /// With another cost (4 to 31): low ones are for tests.
    ///
    /// # Errors
    /// Where hashing fails.
    pub fn with_cost(cost: u32) -> Result<Self, PasswordError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            cost,
            cores: Arc::new(Semaphore::new(cores)),
            nobodys_hash: bcrypt::hash(rand::random::<[u8; 32]>(), cost)?.into(),
        })
    }

    /// The hash to store for a new password.
    ///
    /// # Errors
    /// [`PasswordError::Refused`] where it may not be set.
    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        check(password)?;
        let (password, cost) = (password.to_owned(), self.cost);
        self.off_the_async_threads(move || bcrypt::hash(password, cost))
            .await
    }

    /// Whether `password` belongs to `stored_hash`; `None` for a user who does not exist, which takes the same time
    /// and is never true.
    ///
    /// # Errors
    /// [`PasswordError::Hash`] where the stored hash is damaged.
    pub async fn verify(&self, password: &str, stored_hash: Option<&str>) -> Result<bool, PasswordError> {
        // bcrypt would cut a longer one, and so take it for its first 72 bytes.
        let is_possible = stored_hash.is_some() && password.len() <= MAX_BYTES;
        let hash = stored_hash.unwrap_or(&self.nobodys_hash).to_owned();
        let password = password.to_owned();
        let is_equal = self
            .off_the_async_threads(move || bcrypt::verify(password, &hash))
            .await?;
        Ok(is_equal && is_possible)
    }

    /// The permit goes with the work: a caller that gives up does not make room for another while its hash is
    /// still being computed.
    async fn off_the_async_threads<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, bcrypt::BcryptError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let permit = Arc::clone(&self.cores)
            .acquire_owned()
            .await
            .map_err(|_| PasswordError::Interrupted)?;
        let work = move || {
            let _permit = permit;
            work()
        };
        let result = tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| PasswordError::Interrupted)?;
        Ok(result?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        Passwords::with_cost(4).unwrap()
    }

    #[tokio::test]
    async fn the_right_password_alone_is_accepted() {
        let passwords = passwords();
        let hash = passwords.hash("a long enough one").await.unwrap();
        assert!(hash.starts_with("$2b$04$"));
        assert!(passwords.verify("a long enough one", Some(&hash)).await.unwrap());
        assert!(!passwords.verify("a long enough One", Some(&hash)).await.unwrap());
        assert!(!passwords.verify("", Some(&hash)).await.unwrap());
    }

    #[tokio::test]
    async fn nothing_is_cut_at_72_bytes() {
        let passwords = passwords();
        let longest: String = (0..72).map(|n| char::from(b'a' + n % 26)).collect();
        let hash = passwords.hash(&longest).await.unwrap();
        assert!(passwords.verify(&longest, Some(&hash)).await.unwrap());
        let longer = format!("{longest}x");
        assert!(!passwords.verify(&longer, Some(&hash)).await.unwrap());
        assert!(!passwords.verify(&longest[..71], Some(&hash)).await.unwrap());
        let error = passwords.hash(&longer).await.unwrap_err();
        assert!(matches!(error, PasswordError::Refused(PasswordProblem::TooLong)));
    }

    #[tokio::test]
    async fn an_unknown_user_is_checked_against_a_real_hash() {
        let passwords = passwords();
        let parts: bcrypt::HashParts = passwords.nobodys_hash.parse().unwrap();
        assert_eq!(parts.get_cost(), 4, "the same cost, so the same time");
        assert!(!passwords.verify("a long enough one", None).await.unwrap());
    }

    #[tokio::test]
    async fn a_damaged_hash_is_an_error() {
        let error = passwords()
            .verify("a long enough one", Some("$2b$04$x"))
            .await
            .unwrap_err();
        assert!(matches!(error, PasswordError::Hash(_)));
    }

    #[tokio::test]
    async fn no_more_run_at_once_than_there_are_cores() {
        let passwords = passwords();
        let cores = passwords.cores.available_permits();
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        let blocked: Vec<_> = (0..cores)
            .map(|_| {
                let (passwords, gate) = (passwords.clone(), Arc::clone(&gate));
                tokio::spawn(async move {
                    passwords
                        .off_the_async_threads(move || {
                            let _ = gate.lock().unwrap().recv();
                            Ok(())
                        })
                        .await
                })
            })
            .collect();
        while passwords.cores.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let next = passwords.verify("a long enough one", None);
        tokio::pin!(next);
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx).is_pending())).await);
        assert_eq!(passwords.cores.available_permits(), 0);
        // A caller that gives up leaves its work running, and its place taken.
        blocked[0].abort();
        tokio::task::yield_now().await;
        assert_eq!(passwords.cores.available_permits(), 0);
        drop(release);
        assert!(!next.await.unwrap());
    }

    #[test]
    fn short_and_common_ones_are_refused() {
        assert_eq!(check("elevenbytes"), Err(PasswordProblem::TooShort));
        assert_eq!(check("Password1234"), Err(PasswordProblem::TooCommon));
        assert_eq!(check("changemechangeme"), Err(PasswordProblem::TooCommon));
        assert_eq!(check("administrator"), Err(PasswordProblem::TooCommon));
        assert_eq!(check("zzzzzzzzzzzzzzzz"), Err(PasswordProblem::TooCommon));
        assert_eq!(check("grüne Wiese"), Ok(()), "bytes count, not letters");
        assert!(
            REFUSED
                .iter()
                .all(|word| word.len() >= MIN_BYTES && *word == word.to_lowercase())
        );
    }
}
