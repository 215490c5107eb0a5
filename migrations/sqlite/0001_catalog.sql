-- Times are microseconds since the epoch, by the database's clock.

CREATE TABLE repositories (
    name TEXT NOT NULL PRIMARY KEY,
    access_epoch INTEGER NOT NULL DEFAULT 0,
    last_event INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE branches_and_tags (
    repository TEXT NOT NULL,
    name TEXT NOT NULL,
    tag INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (repository, name)
) STRICT;

CREATE TABLE objects (
    repository TEXT NOT NULL,
    hash BLOB NOT NULL,
    data BLOB NOT NULL,
    referenced_at INTEGER NOT NULL,
    PRIMARY KEY (repository, hash)
) STRICT;

CREATE TABLE documents (
    kind TEXT NOT NULL,
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    body BLOB NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (kind, tenant, key)
) STRICT;

CREATE TABLE idempotency (
    repository TEXT NOT NULL,
    key TEXT NOT NULL,
    principal TEXT NOT NULL,
    operation TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    commit_hash BLOB,
    error TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (repository, key)
) STRICT;

CREATE INDEX idempotency_by_age ON idempotency (repository, created_at);

CREATE TABLE events (
    repository TEXT NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (repository, number)
) STRICT;
