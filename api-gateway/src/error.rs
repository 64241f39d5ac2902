//! The one error of the API: `application/problem+json` (RFC 9457) with a stable `code`.
//!
//! What a client reads is chosen here and in the handlers; an internal cause is logged with the request's id and
//! never sent.

use crate::request_id;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use database::DatabaseError;
use serde::Serialize;
use std::fmt;
use utoipa::ToSchema;

macro_rules! codes {
    ($($variant:ident => $status:ident, $code:literal, $title:literal;)*) => {
        /// Every `code` there is, with its status and title.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($variant),* }

        impl Code {
            pub(crate) const ALL: &'static [Code] = &[$(Code::$variant),*];

            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code),* }
            }

            pub(crate) fn title(self) -> &'static str {
                match self { $(Code::$variant => $title),* }
            }

            pub(crate) fn status(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$status),* }
            }
        }
    };
}

codes! {
    UnreadableBody => BAD_REQUEST, "unreadable_body", "The body is not readable";
    InvalidCredentials => UNAUTHORIZED, "invalid_credentials", "Username or password is wrong";
    Unauthenticated => UNAUTHORIZED, "unauthenticated", "Not signed in";
    CsrfFailed => FORBIDDEN, "csrf_failed", "No proof that a page of this service asks";
    PermissionDenied => FORBIDDEN, "permission_denied", "Permission denied";
    PasswordChangeRequired => FORBIDDEN, "password_change_required", "The password must be changed first";
    SharedAccount => FORBIDDEN, "shared_account", "The person also belongs to another company";
    NotFound => NOT_FOUND, "not_found", "Not found";
    MethodNotAllowed => METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed";
    RequestTimeout => REQUEST_TIMEOUT, "request_timeout", "The request took too long to arrive";
    Conflict => CONFLICT, "conflict", "Conflict with the present state";
    NameTaken => CONFLICT, "name_taken", "The name is taken";
    UsernameTaken => CONFLICT, "username_taken", "The username is taken";
    EmailTaken => CONFLICT, "email_taken", "The e-mail address is taken";
    CompanyCodeTaken => CONFLICT, "company_code_taken", "The company code is taken";
    CycleNumberTaken => CONFLICT, "cycle_number_taken", "The cycle number is taken";
    ProjectHasSessions => CONFLICT, "project_has_sessions", "The project has sessions";
    ProjectInactive => CONFLICT, "project_inactive", "The project is not active";
    CycleHasSessions => CONFLICT, "cycle_has_sessions", "The cycle has sessions";
    CycleCompleted => CONFLICT, "cycle_completed", "The cycle is completed";
    CycleBusy => CONFLICT, "cycle_busy", "Another session writes there";
    SessionRunning => CONFLICT, "session_running", "A session is not finished";
    WrongStatus => CONFLICT, "wrong_status", "The session's status does not allow it";
    FilesDropped => CONFLICT, "files_dropped", "The session's files are no longer recorded";
    NoReceipt => CONFLICT, "no_receipt", "The session has no receipt";
    NoPlan => CONFLICT, "no_plan", "The session has no plan";
    NothingToRetry => CONFLICT, "nothing_to_retry", "Nothing to retry";
    IdempotencyKeyReused => CONFLICT, "idempotency_key_reused", "The Idempotency-Key was used for another request";
    UploadInUse => CONFLICT, "upload_in_use", "An unfinished session uses the upload";
    StorageAccessDenied => CONFLICT, "access_denied", "The store refuses the project's credentials";
    NoSuchBucket => CONFLICT, "no_such_bucket", "The project's bucket does not exist";
    CredentialsMissing => CONFLICT, "credentials_missing", "There are no credentials for the project's bucket";
    CredentialsUnreadable => CONFLICT, "credentials_unreadable", "The project's credentials cannot be opened";
    StorageMisconfigured => CONFLICT, "storage_misconfigured", "The project's bucket cannot be used as it is set up";
    LastOwner => CONFLICT, "last_owner", "The company would have no owner";
    OwnAccount => CONFLICT, "own_account", "Not on one's own account";
    PayloadTooLarge => PAYLOAD_TOO_LARGE, "payload_too_large", "The body is too large";
    UnsupportedMediaType => UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Send application/json";
    ValidationFailed => UNPROCESSABLE_ENTITY, "validation_failed", "Some values are not valid";
    NotSupported => UNPROCESSABLE_ENTITY, "not_supported", "Not supported by this version";
    Internal => INTERNAL_SERVER_ERROR, "internal_error", "Internal error";
    StorageError => BAD_GATEWAY, "storage_error", "The store answered with an error";
    StorageUnreachable => SERVICE_UNAVAILABLE, "storage_unreachable", "The store cannot be reached";
    DatabaseUnavailable => SERVICE_UNAVAILABLE, "database_unavailable", "The database cannot be reached";
    RootUnavailable => SERVICE_UNAVAILABLE, "root_unavailable", "The source root is not mounted here";
}

/// A value that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// JSON pointer into the body (`/settings/concurrency`), or `/` and the name of a query parameter.
    pub pointer: String,
    /// Stable: `required`, `unknown_field`, `invalid_type`, `invalid`, …
    pub code: String,
    /// For people; to be read after the field's name.
    pub detail: String,
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `about:blank`: the code says it all.
    pub r#type: &'static str,
    /// What the code means, in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, for people.
    pub detail: String,
    /// Stable, for programs.
    pub code: String,
    /// The request's id, as in `X-Request-Id`; quote it when asking for help.
    pub request_id: String,
    /// With `validation_failed` and `not_supported`: each value that is not valid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// The one error of the API.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    allow: Option<String>,
    cause: Option<String>,
}

impl ApiError {
    /// With the plainest detail; see [`ApiError::detail`].
    pub(crate) fn new(code: Code) -> Self {
        let detail = match code {
            Code::NotFound => "There is nothing with this address that you could see.".to_owned(),
            Code::Unauthenticated => "Send a valid access token: Authorization: Bearer <token>.".to_owned(),
            Code::Internal => {
                "Something went wrong on our side. The request id names it in the log.".to_owned()
            }
            Code::DatabaseUnavailable => "Try again in a moment.".to_owned(),
            other => format!("{}.", other.title()),
        };
        Self(Box::new(Inner {
            code,
            detail,
            errors: Vec::new(),
            allow: None,
            cause: None,
        }))
    }

    /// What happened here, for people.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = detail.into();
        self
    }

    /// What really happened, for the log.
    pub(crate) fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// The methods that would have been allowed.
    pub(crate) fn allow(mut self, methods: String) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// An error of ours.
    pub(crate) fn internal(cause: impl fmt::Display) -> Self {
        Self::new(Code::Internal).cause(cause)
    }

    /// A field that this version does not take yet.
    pub(crate) fn not_supported(pointer: &str, detail: &str) -> Self {
        let mut error = Self::new(Code::NotSupported).detail(detail);
        error.0.errors = vec![FieldError {
            pointer: pointer.to_owned(),
            code: Code::NotSupported.as_str().to_owned(),
            detail: detail.to_owned(),
        }];
        error
    }

    pub(crate) fn code(&self) -> Code {
        self.0.code
    }

    fn problem(&self) -> Problem {
        Problem {
            r#type: "about:blank",
            title: self.0.code.title().to_owned(),
            status: self.0.code.status().as_u16(),
            detail: self.0.detail.clone(),
            code: self.0.code.as_str().to_owned(),
            request_id: request_id::current(),
            errors: self.0.errors.clone(),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.as_str(), self.0.detail)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.0.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        let code = self.0.code.as_str();
        let request_id = request_id::current();
        match &self.0.cause {
            Some(cause) if self.status_code().is_server_error() => {
                tracing::error!(request_id, code, cause, "request failed");
            }
            Some(cause) => tracing::debug!(request_id, code, cause, "request refused"),
            None => {}
        }
        let mut response = HttpResponse::build(self.status_code());
        response.content_type("application/problem+json");
        match self.0.code {
            Code::Unauthenticated => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"data-uploader\""));
            }
            Code::InvalidCredentials => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"data-uploader\""));
            }
            Code::StorageUnreachable | Code::DatabaseUnavailable | Code::RootUnavailable => {
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            // The rest of the request may still come: it must not be read as the next one.
            Code::RequestTimeout => {
                response.force_close();
            }
            _ => {}
        }
        if let Some(methods) = &self.0.allow {
            response.insert_header((header::ALLOW, methods.as_str()));
        }
        response.json(self.problem())
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        let code = match &error {
            DatabaseError::Unavailable(_) | DatabaseError::DiskFull(_) => Code::DatabaseUnavailable,
            DatabaseError::NotFound => Code::NotFound,
            DatabaseError::Conflict { constraint } => match constraint.as_str() {
                "projects_name_key" => Code::NameTaken,
                "cycles_project_id_cycle_number_key" => Code::CycleNumberTaken,
                "users_username_key" => Code::UsernameTaken,
                "users_email_key" => Code::EmailTaken,
                "companies_company_code_key" => Code::CompanyCodeTaken,
                _ => Code::Conflict,
            },
            _ => Code::Internal,
        };
        let problem = Self::new(code);
        let problem = match &error {
            DatabaseError::DiskFull(_) => problem.detail(
                "The database's disk is full, and nothing was changed. Try again when there is room on it.",
            ),
            _ => problem,
        };
        problem.cause(error)
    }
}

/// Gathers what is wrong with a request, so that its sender sees all of it at once.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<FieldError>);

impl Problems {
    /// Notes a value that is not valid.
    pub(crate) fn add(&mut self, pointer: impl Into<String>, code: &str, detail: impl fmt::Display) {
        self.0.push(FieldError {
            pointer: pointer.into(),
            code: code.to_owned(),
            detail: detail.to_string(),
        });
    }

    /// Nothing, or the error that names everything noted.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.into_error())
        }
    }

    /// The error that names everything noted.
    pub(crate) fn into_error(self) -> ApiError {
        let detail = self
            .0
            .iter()
            .map(|error| match error.pointer.as_str() {
                "" => format!("the body {}", error.detail),
                pointer => format!("{} {}", pointer.trim_start_matches('/'), error.detail),
            })
            .collect::<Vec<_>>()
            .join("; ");
        let mut error = ApiError::new(Code::ValidationFailed).detail(detail);
        error.0.errors = self.0;
        error
    }
}
