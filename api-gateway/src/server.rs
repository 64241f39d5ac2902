//! The HTTP server: the app and everything around the endpoints.

use crate::endpoints;
use crate::error::{ApiError, Code};
use crate::openapi;
use crate::request_id;
use crate::state::State;
use actix_web::body::{EitherBody, MessageBody, None as NoBody};
use actix_web::dev::{ResourceDef, Server, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::Bytes;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use std::net::TcpListener;
use std::time::Duration;
use utoipa_actix_web::AppExt as _;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// How long a client may take to send its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long requests may take to end after the gateway was told to stop, in seconds.
const SHUTDOWN_TIMEOUT_S: u64 = 15;
/// Threads that serve requests, at most: each has all routes for itself. What takes long waits elsewhere.
const MAX_THREADS: usize = 4;

/// Starts to serve `state` on `listener`.
pub(crate) fn serve(state: web::Data<State>, listener: TcpListener) -> Result<Server, std::io::Error> {
    let document = openapi::document();
    // Written once, and not by each thread for itself.
    let written = web::Data::new(Written {
        yaml: document.to_yaml().map_err(std::io::Error::other)?.into(),
        json: document.to_json()?.into(),
    });
    let routes = web::Data::new(Routes::of(&document));
    let server = HttpServer::new(move || {
        let (app, _) = App::new()
            .app_data(state.clone())
            .app_data(written.clone())
            .app_data(routes.clone())
            .wrap(from_fn(head_as_get))
            .wrap(from_fn(request_id::observe))
            .into_utoipa_app()
            .configure(endpoints::register)
            .split_for_parts();
        app.service(SwaggerUi::new("/docs/{_:.*}").config(Config::new(["/openapi.json"])))
            .route("/docs", web::get().to(docs))
            .route("/openapi.json", web::get().to(openapi_json))
            .route("/openapi.yaml", web::get().to(openapi_yaml))
            .default_service(web::to(nothing_here))
    });
    Ok(server
        .workers(threads())
        .client_request_timeout(HEADER_TIMEOUT)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(SHUTDOWN_TIMEOUT_S)
        .disable_signals()
        .listen(listener)?
        .run())
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS))
}

/// `HEAD` is answered as `GET`, without the body.
async fn head_as_get<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, NoBody>>, actix_web::Error> {
    let is_head = request.method() == Method::HEAD;
    if is_head {
        request.head_mut().method = Method::GET;
    }
    let response = next.call(request).await?;
    Ok(if is_head {
        response.map_body(|_, _| EitherBody::right(NoBody::new()))
    } else {
        response.map_into_left_body()
    })
}

/// The OpenAPI document, as it is sent.
struct Written {
    yaml: Bytes,
    json: Bytes,
}

async fn openapi_yaml(written: web::Data<Written>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/yaml")
        .body(written.yaml.clone())
}

async fn openapi_json(written: web::Data<Written>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(written.json.clone())
}

async fn docs() -> HttpResponse {
    HttpResponse::PermanentRedirect()
        .insert_header(("Location", "/docs/"))
        .finish()
}

/// The paths there are, to tell a wrong method from a wrong path.
struct Routes(Vec<(ResourceDef, String)>);

impl Routes {
    fn of(document: &utoipa::openapi::OpenApi) -> Self {
        let routes = document.paths.paths.iter().map(|(path, item)| {
            let methods = [
                ("GET", item.get.is_some()),
                ("POST", item.post.is_some()),
                ("PATCH", item.patch.is_some()),
                ("DELETE", item.delete.is_some()),
            ];
            let methods: Vec<&str> = methods
                .into_iter()
                .filter(|(_, there)| *there)
                .map(|(name, _)| name)
                .collect();
            (ResourceDef::new(path.as_str()), methods.join(", "))
        });
        Self(routes.collect())
    }
}

async fn nothing_here(request: HttpRequest, routes: web::Data<Routes>) -> Result<HttpResponse, ApiError> {
    let known = routes.0.iter().find(|(route, _)| route.is_match(request.path()));
    Err(match known {
        Some((_, methods)) => ApiError::new(Code::MethodNotAllowed)
            .detail(format!("Here there are: {methods}."))
            .allow(methods.clone()),
        None => ApiError::new(Code::NotFound),
    })
}
