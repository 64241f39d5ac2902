//! Who may do what: **the one table**, role x permission. A handler names the permission it needs; nothing else
//! decides. `GET /api/auth/me` lists the caller's permissions from here, and the test matrix reads it too.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A person's role in one company.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything in the company, and the company itself.
    Owner,
    /// Everything in the company but the company itself and its owners.
    Admin,
    /// Uploads, and looks after cycles.
    Member,
    /// Reads.
    Viewer,
}

crate::status::text_enum!(Role { Owner => "owner", Admin => "admin", Member => "member", Viewer => "viewer" });

macro_rules! permissions {
    ($($variant:ident => $name:literal, [$($role:ident),*];)*) => {
        /// Something a person may be allowed to do in a company. The name is what `/api/auth/me` shows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum Permission {
            $(
                #[doc = concat!("`", $name, "`")]
                #[serde(rename = $name)]
                $variant,
            )*
        }

        impl Permission {
            /// Every permission, in the order of the table.
            pub const ALL: &'static [Permission] = &[$(Permission::$variant),*];

            /// The stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Permission::$variant => $name),* }
            }

            /// The roles that hold it.
            #[must_use]
            pub fn roles(self) -> &'static [Role] {
                match self { $(Permission::$variant => &[$(Role::$role),*]),* }
            }
        }
    };
}

permissions! {
    CompanyRead => "company.read", [Owner, Admin, Member, Viewer];
    ProjectRead => "project.read", [Owner, Admin, Member, Viewer];
    CycleRead => "cycle.read", [Owner, Admin, Member, Viewer];
    SessionRead => "session.read", [Owner, Admin, Member, Viewer];
    FileRead => "file.read", [Owner, Admin, Member, Viewer];
    StatsRead => "stats.read", [Owner, Admin, Member, Viewer];
    SessionCreate => "session.create", [Owner, Admin, Member];
    // Members control their own sessions; `session.control_all` reaches everybody's.
    SessionControl => "session.control", [Owner, Admin, Member];
    SessionControlAll => "session.control_all", [Owner, Admin];
    CycleWrite => "cycle.write", [Owner, Admin, Member];
    ProjectWrite => "project.write", [Owner, Admin];
    StorageCheck => "storage.check", [Owner, Admin];
    UserRead => "user.read", [Owner, Admin];
    UserWrite => "user.write", [Owner, Admin];
    AuditRead => "audit.read", [Owner, Admin];
    ConfigHistoryRead => "config_history.read", [Owner, Admin];
    ApiKeyManageAll => "api_key.manage_all", [Owner, Admin];
    WebhookWrite => "webhook.write", [Owner, Admin];
    CompanyWrite => "company.write", [Owner];
    OwnerAssign => "owner.assign", [Owner];
}

impl Role {
    /// Whether this role holds `permission`.
    #[must_use]
    pub fn allows(self, permission: Permission) -> bool {
        permission.roles().contains(&self)
    }

    /// What this role may do, in the order of the table.
    pub fn permissions(self) -> impl Iterator<Item = Permission> {
        Permission::ALL
            .iter()
            .copied()
            .filter(move |permission| self.allows(*permission))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_only_reads() {
        assert!(
            Role::Viewer
                .permissions()
                .all(|permission| permission.as_str().ends_with(".read"))
        );
        assert!(!Role::Viewer.allows(Permission::SessionCreate));
        assert!(!Role::Viewer.allows(Permission::AuditRead));
    }

    #[test]
    fn roles_are_nested() {
        for permission in Permission::ALL {
            for (lesser, greater) in [
                (Role::Viewer, Role::Member),
                (Role::Member, Role::Admin),
                (Role::Admin, Role::Owner),
            ] {
                assert!(
                    !lesser.allows(*permission) || greater.allows(*permission),
                    "{permission:?}: {lesser:?} holds it, {greater:?} does not"
                );
            }
        }
    }

    #[test]
    fn names_are_what_serde_writes() {
        for permission in Permission::ALL {
            assert_eq!(serde_json::to_value(permission).unwrap(), permission.as_str());
        }
    }
}
