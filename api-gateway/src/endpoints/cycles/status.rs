//! Moving a cycle by hand: declaring it complete, and opening it again. Its first session moves it from `pending` to
//! `in_progress`, and nothing here does.

use crate::error::{ApiError, Code};
use database::TenantConn;
use database::cycles::{self, Cycle};
use database::projects::Sessions;
use domain::CycleStatus;

/// Declares a locked cycle complete; a completed one stays as it is.
pub(super) async fn complete(conn: &mut TenantConn, present: Cycle) -> Result<Cycle, ApiError> {
    if present.status == CycleStatus::Completed {
        return Ok(present);
    }
    if cycles::sessions_of(conn, present.id).await? == Sessions::Unfinished {
        return Err(ApiError::new(Code::SessionRunning)
            .detail("A session of this cycle is not finished. Cancel it, or wait until it ends."));
    }
    Ok(cycles::set_status(conn, present.id, CycleStatus::Completed).await?)
}

/// Opens a locked cycle again; an open one stays as it is.
pub(super) async fn reopen(conn: &mut TenantConn, present: Cycle) -> Result<Cycle, ApiError> {
    if present.status != CycleStatus::Completed {
        return Ok(present);
    }
    let status = match cycles::sessions_of(conn, present.id).await? {
        Sessions::None => CycleStatus::Pending,
        Sessions::Ended | Sessions::Unfinished => CycleStatus::InProgress,
    };
    Ok(cycles::set_status(conn, present.id, status).await?)
}

/// Moves a locked cycle to the status a client names: complete, or open again.
pub(super) async fn move_to(
    conn: &mut TenantConn,
    present: Cycle,
    wanted: CycleStatus,
) -> Result<Cycle, ApiError> {
    let was = present.status;
    let moved = match wanted {
        CycleStatus::Completed => complete(conn, present).await?,
        CycleStatus::Pending | CycleStatus::InProgress => reopen(conn, present).await?,
    };
    if moved.status == wanted {
        return Ok(moved);
    }
    Err(ApiError::new(Code::Conflict).detail(format!(
        "A cycle that is {was} cannot be made {wanted}: its first session moves it to {}.",
        CycleStatus::InProgress
    )))
}
