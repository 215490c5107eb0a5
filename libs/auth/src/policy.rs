//! What a tenant's own rules say: its standing, grants beside the roles, protected branches, revocations, limits. Deciding is
//! here, and it is pure.

use serde::{Deserialize, Serialize};

use crate::{Principal, Role, Scope, TenantName, glob};

/// What somebody wants to do in a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// See that the tenant exists, and how it is set up.
    Visit,
    /// Upload inventories.
    Upload,
    /// Read contents, states, history.
    Read,
    /// Commit to a branch.
    Write,
    /// Merge or transplant into a branch.
    Merge,
    /// Create a branch or tag.
    CreateReference,
    /// Delete a branch or tag.
    DeleteReference,
    /// Point a branch or tag elsewhere.
    AssignReference,
    /// Garbage collection, leases, suspension of stages, replays, commands to findings.
    Maintain,
    /// Clients, tokens, grants, protections, the audit log.
    Administer,
}

impl Action {
    /// The role that includes it, for all references and keys.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Visit => Role::Agent,
            Self::Read => Role::Reader,
            Self::Upload | Self::Write | Self::Merge | Self::CreateReference | Self::DeleteReference => {
                Role::Writer
            }
            Self::AssignReference | Self::Maintain => Role::Maintainer,
            Self::Administer => Role::Admin,
        }
    }

    /// Whether a grant can give it: what has a reference.
    #[must_use]
    pub fn is_grantable(self) -> bool {
        !matches!(self, Self::Visit | Self::Upload | Self::Maintain | Self::Administer)
    }

    /// Whether it changes what tables and references say.
    fn changes_data(self) -> bool {
        !matches!(self, Self::Visit | Self::Read | Self::Maintain | Self::Administer)
    }
}

/// Actions that one principal may do beside what its role includes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its full name, such as `acme/etl`.
    pub principal: String,
    /// What.
    pub actions: Vec<Action>,
    /// On which references: `*` is any number of characters, `?` one.
    #[serde(default = "any_reference")]
    pub reference: String,
    /// On which keys: elements joined by dots, `**` is any number of elements.
    #[serde(default = "any_key")]
    pub key: String,
}

fn any_reference() -> String {
    "*".to_owned()
}

fn any_key() -> String {
    "**".to_owned()
}

/// References that take merges only, from maintainers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Protection {
    /// Which: `*` is any number of characters, `?` one.
    pub reference: String,
    /// Principals that it doesn't hold for. Firn's own ingest and maintenance are always among them.
    #[serde(default)]
    pub exempt: Vec<String>,
}

/// Tokens that are refused although they are valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Which.
    #[serde(flatten)]
    pub what: RevokedWhat,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Who revoked them.
    pub by: String,
    /// After this, in seconds since the epoch, such tokens have expired anyway.
    pub until: i64,
}

/// Which tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevokedWhat {
    /// The one of this id, and those exchanged for it.
    Token(String),
    /// Those of a principal issued up to an instant, in seconds since the epoch.
    Principal {
        /// Its full name.
        name: String,
        /// Later ones are good.
        issued_until: i64,
    },
}

/// Whether a tenant is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Yes.
    #[default]
    Active,
    /// No; the reason is for those who ask.
    Suspended(String),
    /// It was deleted; the text says until when it can be restored.
    Deleted(String),
}

/// A tenant's rules as they were at one access epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Policy {
    /// Rises with every change of what is in here.
    pub epoch: i64,
    /// Whether the tenant is in use.
    pub standing: Standing,
    /// Beside the roles.
    pub grants: Vec<Grant>,
    /// Protected branches.
    pub protections: Vec<Protection>,
    /// Refused tokens.
    pub revocations: Vec<Revocation>,
    /// How much of the server the tenant may take.
    pub limits: Limits,
}

/// Limits of a tenant; what is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests per second, over all its principals; ten seconds' worth may come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_s: Option<u32>,
    /// Bytes of a request's body as it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// Commits and merges that run at once, on each replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_commits: Option<u32>,
    /// Tables and views of a branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<u32>,
    /// Branches and tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub references: Option<u32>,
}

/// Which of a reference's keys are meant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent<'a> {
    /// This one.
    Key(&'a [String]),
    /// At least one that is this or lies below it.
    Within(&'a [String]),
    /// All.
    All,
    /// At least one.
    Any,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The token doesn't reach the tenant, whether or not it exists.
    Unreached,
    /// The token was revoked.
    Revoked(String),
    /// The tenant is suspended or deleted.
    Standing(String),
    /// The branch is protected.
    Protected(String),
    /// Neither role nor grant gives it.
    Ungranted(String),
}

impl Policy {
    /// The epoch of a tenant that doesn't exist; below all others.
    pub const NO_EPOCH: i64 = -1;

    /// Whether a principal may do something in the tenant. Nothing is allowed that isn't said to be.
    pub(crate) fn decide(
        &self,
        principal: &Principal,
        tenant: &TenantName,
        action: Action,
        reference: Option<&str>,
        extent: Extent<'_>,
    ) -> Result<(), Refusal> {
        let role = principal.role(tenant);
        let grants = || self.grants.iter().filter(|grant| grant.principal == principal.name());
        if role.is_none() && grants().next().is_none() {
            return Err(Refusal::Unreached);
        }
        self.refuse_revoked(principal)?;
        self.refuse_unused(principal, tenant, action)?;
        let role = role.unwrap_or(Role::Agent);
        let granted = action.is_grantable() && grants().any(|grant| grant.gives(action, reference, extent));
        self.refuse_protected(principal, role, action, reference, granted)?;
        let uploads = action == Action::Upload && principal.has_scope(Scope::InventoryWrite);
        if role >= action.role() || granted || uploads {
            return Ok(());
        }
        let needed = action.role();
        if action == Action::Upload {
            let text =
                format!("uploading to '{tenant}' needs the scope inventory:write or the role {needed}");
            return Err(Refusal::Ungranted(text));
        }
        let text = format!("this needs the role {needed} in '{tenant}', the token gives {role}");
        let has_some = action.is_grantable() && grants().any(|grant| grant.actions.contains(&action));
        Err(Refusal::Ungranted(if has_some { format!("{text}, and no grant covers it") } else { text }))
    }

    /// Refuses a token that was revoked here.
    pub(crate) fn refuse_revoked(&self, principal: &Principal) -> Result<(), Refusal> {
        let claims = &principal.claims;
        let is_this = |id: &str| id == claims.jti || claims.origin.as_deref() == Some(id);
        let revoked = self.revocations.iter().find(|revocation| match &revocation.what {
            RevokedWhat::Token(id) => is_this(id),
            RevokedWhat::Principal { name, issued_until } => {
                // An exchanged token is as old as what was exchanged.
                let issued = claims.auth_time.map_or(claims.iat, |time| time.min(claims.iat));
                name == principal.name() && issued <= *issued_until
            }
        });
        match revoked {
            None => Ok(()),
            Some(_) => Err(Refusal::Revoked("the token was revoked: ask for a new one".to_owned())),
        }
    }

    /// Of a suspended tenant an operator may see and repair everything, but nobody changes its data; a deleted one is only
    /// there to be restored.
    fn refuse_unused(
        &self,
        principal: &Principal,
        tenant: &TenantName,
        action: Action,
    ) -> Result<(), Refusal> {
        let operator = principal.claims.operator;
        let (reason, allowed) = match &self.standing {
            Standing::Active => return Ok(()),
            Standing::Suspended(reason) => {
                let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                let text = format!("the tenant '{tenant}' is suspended{reason}: its operator can resume it");
                (text, operator && !action.changes_data())
            }
            Standing::Deleted(until) => {
                let text = format!("the tenant '{tenant}' was deleted{until}");
                (text, operator && action == Action::Visit)
            }
        };
        if allowed { Ok(()) } else { Err(Refusal::Standing(reason)) }
    }

    fn refuse_protected(
        &self,
        principal: &Principal,
        role: Role,
        action: Action,
        reference: Option<&str>,
        granted: bool,
    ) -> Result<(), Refusal> {
        if !action.changes_data() || action == Action::Upload {
            return Ok(());
        }
        let Some(reference) = reference else { return Ok(()) };
        let service = |scope| principal.has_scope(scope);
        let holds = |protection: &Protection| {
            glob::fits(&protection.reference, reference)
                && !protection.exempt.iter().any(|exempt| exempt == principal.name())
        };
        if service(Scope::ServiceIngest)
            || service(Scope::ServiceMaintenance)
            || !self.protections.iter().any(holds)
        {
            return Ok(());
        }
        match action {
            Action::Merge | Action::CreateReference if role >= Role::Maintainer || granted => Ok(()),
            Action::Merge | Action::CreateReference => {
                Err(Refusal::Protected(format!("'{reference}' is protected: this needs the role maintainer")))
            }
            _ => Err(Refusal::Protected(format!(
                "'{reference}' is protected and takes merges only: commit to a branch of your own and merge it"
            ))),
        }
    }
}

impl Grant {
    fn gives(&self, action: Action, reference: Option<&str>, extent: Extent<'_>) -> bool {
        let there = match reference {
            Some(reference) => glob::fits(&self.reference, reference),
            // A commit by its hash may be anybody's.
            None => self.reference == "*",
        };
        let covered = match extent {
            Extent::Key(key) => glob::key_fits(&self.key, key),
            Extent::Within(namespace) => glob::may_fit_below(&self.key, namespace),
            Extent::All => self.key == "**",
            Extent::Any => true,
        };
        there && covered && self.actions.contains(&action)
    }
}

#[cfg(test)]
mod tests;
