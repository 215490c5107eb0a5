//! The SQL that both backends run as it is. What differs (clocks, lists as parameters) is in the backends' own files.

pub(super) const REFERENCES: &str =
    "SELECT name, tag, hash FROM branches_and_tags WHERE repository = $1 ORDER BY name";

pub(super) const IDEMPOTENCY: &str =
    "SELECT key, principal, operation, request_hash, commit_hash, error FROM idempotency
    WHERE repository = $1 AND key = $2";

pub(super) const EVENTS: &str = "SELECT number, kind, body, created_at FROM events
    WHERE repository = $1 AND number > $2 ORDER BY number LIMIT $3";

pub(super) const LAST_EVENTS: &str = "SELECT name, last_event FROM repositories ORDER BY name";
