//! `GET /api/source-roots`.

use crate::actor::Actor;
use crate::error::ApiError;
use crate::page::{Page, PageParams, PageRequest};
use crate::request::Query;
use crate::state::State;
use actix_web::{get, web};
use domain::Permission;
use serde::Serialize;
use utoipa::ToSchema;

/// A directory that uploads may read.
#[derive(Serialize, ToSchema)]
struct SourceRoot {
    name: String,
    /// Whether this gateway has it mounted, so that it can be browsed. Workers may have it all the same.
    available: bool,
}

/// The source roots one's company may use, in the order of the configuration.
#[utoipa::path(
    tag = "sources",
    params(PageParams),
    responses((status = 200, description = "A page of roots", body = Page<SourceRoot>)),
)]
#[get("/api/source-roots")]
pub(crate) async fn list(
    state: web::Data<State>,
    actor: Actor,
    mut query: Query,
) -> Result<web::Json<Page<SourceRoot>>, ApiError> {
    actor.require(Permission::ProjectRead)?;
    let page = PageRequest::<usize>::read(&mut query);
    query.finish()?;
    let roots = state.source_roots.visible_to(&actor.company_code);
    let page = page.page_of_all(roots, |root| root)?;
    let mut items = Vec::new();
    for root in page.items {
        let is_directory = tokio::fs::metadata(&root.path)
            .await
            .is_ok_and(|metadata| metadata.is_dir());
        items.push(SourceRoot {
            name: root.name.clone(),
            available: is_directory,
        });
    }
    Ok(web::Json(Page {
        items,
        next_cursor: page.next_cursor,
    }))
}
