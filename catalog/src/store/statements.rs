//! The SQL that both backends run as it is. What differs (clocks, lists as parameters) is in the backends' own files.

pub(super) const REFERENCES: &str =
    "SELECT name, tag, hash FROM branches_and_tags WHERE repository = $1 ORDER BY name";

pub(super) const CREATE_REFERENCE: &str =
    "INSERT INTO branches_and_tags (repository, name, tag, hash) VALUES ($1, $2, $3, $4)
    ON CONFLICT (repository, name) DO NOTHING";

pub(super) const MOVE_REFERENCE: &str =
    "UPDATE branches_and_tags SET hash = $4 WHERE repository = $1 AND name = $2 AND hash = $3";

pub(super) const DELETE_REFERENCE: &str =
    "DELETE FROM branches_and_tags WHERE repository = $1 AND name = $2 AND hash = $3";

pub(super) const REFERENCE_HASH: &str =
    "SELECT hash FROM branches_and_tags WHERE repository = $1 AND name = $2";

pub(super) const DELETE_DOCUMENT: &str =
    "DELETE FROM documents WHERE kind = $1 AND tenant = $2 AND key = $3 AND ($4 < 0 OR version = $4)";

pub(super) const IDEMPOTENCY: &str =
    "SELECT key, principal, operation, request_hash, commit_hash, error FROM idempotency
    WHERE repository = $1 AND key = $2";

pub(super) const RAISE_EPOCH: &str =
    "UPDATE repositories SET access_epoch = access_epoch + 1 WHERE name = $1";

pub(super) const TAKE_EVENT_NUMBERS: &str =
    "UPDATE repositories SET last_event = last_event + $2 WHERE name = $1 RETURNING last_event";

pub(super) const EVENTS: &str = "SELECT number, kind, body, created_at FROM events
    WHERE repository = $1 AND number > $2 ORDER BY number LIMIT $3";
