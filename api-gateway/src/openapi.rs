//! The OpenAPI document: what the endpoints say of themselves, and what they all have in common.

use crate::endpoints;
use crate::error::{Code, FieldError, Problem};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};
use utoipa_actix_web::AppExt as _;

const PROBLEM: &str = "application/problem+json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Data Uploader",
        description = "Moves directories of files into S3 buckets, and proves that they arrived.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem, FieldError)),
    security(("bearer" = []), ("cookie" = [])),
    tags(
        (name = "sign-in", description = "Tokens, and who one is"),
        (name = "companies", description = "The tenants"),
        (name = "users", description = "The people of one's company"),
        (name = "projects", description = "Where deliveries go: a bucket and how to reach it"),
        (name = "cycles", description = "The delivery rounds of a project"),
        (name = "sources", description = "The directories that uploads may read"),
        (name = "sessions", description = "Upload runs and their files"),
        (name = "queue", description = "What waits, and why"),
        (name = "leftovers", description = "Multipart uploads that were left open"),
        (name = "service", description = "For whoever runs the service"),
    ),
)]
struct Base;

/// What comes before the services: the common parts.
fn base() -> Document {
    Base::openapi()
}

/// The whole document.
pub(crate) fn document() -> Document {
    let (_, document) = actix_web::App::new()
        .into_utoipa_app()
        .openapi(base())
        .configure(endpoints::register)
        .split_for_parts();
    complete(document)
}

/// Adds what all operations share: the bearer token, and the errors that any of them may give.
fn complete(mut document: Document) -> Document {
    let components = document.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(
        Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .build(),
    );
    components
        .security_schemes
        .insert("bearer".into(), RefOr::T(bearer));
    let cookie = "What signs browsers in with `use_cookies` (`uploader_access` without TLS). Whatever changes anything \
                  then needs `X-CSRF-Token` with the token of `GET /api/auth/csrf`.";
    let cookie = ApiKey::Cookie(ApiKeyValue::with_description("__Host-uploader_access", cookie));
    components
        .security_schemes
        .insert("cookie".into(), RefOr::T(SecurityScheme::ApiKey(cookie)));
    let mut shared = Vec::new();
    for code in Code::ALL {
        let status = code.status().as_u16();
        let line = format!("`{}`: {}", code.as_str(), code.title());
        match shared.iter_mut().find(|(known, _)| *known == status) {
            Some((_, lines)) => *lines = format!("{lines}; {line}"),
            None => shared.push((status, line)),
        }
    }
    for (status, description) in &shared {
        components
            .responses
            .insert(format!("Error{status}"), RefOr::T(problem(description)));
    }
    for (path, item) in &mut document.paths.paths {
        let is_service = !path.starts_with("/api/");
        for operation in [
            &mut item.get,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
            &mut item.put,
        ] {
            let Some(operation) = operation else { continue };
            name_by_area(operation);
            if !is_service {
                add_errors(operation, path);
            }
        }
    }
    document
}

/// `list` of the area `projects` becomes `projects_list`: unique, and a good name in generated clients.
fn name_by_area(operation: &mut Operation) {
    let area = operation
        .tags
        .as_ref()
        .and_then(|tags| tags.first())
        .map(|tag| tag.replace('-', "_"));
    if let (Some(area), Some(name)) = (area, &operation.operation_id) {
        operation.operation_id = Some(format!("{area}_{name}"));
    }
}

fn problem(description: &str) -> Response {
    let content = Content::builder()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    ResponseBuilder::new()
        .description(description)
        .content(PROBLEM, content)
        .build()
}

fn add_errors(operation: &mut Operation, path: &str) {
    let is_public = operation.security.as_ref().is_some_and(|security| {
        serde_json::to_value(security).is_ok_and(|value| value == serde_json::json!([{}]))
    });
    let has_body = operation.request_body.is_some();
    let has_query = operation.parameters.as_ref().is_some_and(|parameters| {
        parameters.iter().any(|parameter| match parameter {
            RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
            RefOr::Ref(_) => false,
        })
    });
    let mut statuses = vec![500, 503];
    if !is_public || path.starts_with("/api/auth/") {
        statuses.push(401);
    }
    if !is_public {
        statuses.push(403);
    }
    if path.contains('{') || path == "/api/sessions" && has_body {
        statuses.push(404);
    }
    if has_body {
        statuses.extend([400, 408, 413, 415]);
    }
    if has_body || has_query {
        statuses.push(422);
    }
    for status in statuses {
        let reference = RefOr::Ref(Ref::new(format!("#/components/responses/Error{status}")));
        operation
            .responses
            .responses
            .entry(status.to_string())
            .or_insert(reference);
    }
}
