-- Times are microseconds since the epoch, by the database's clock. Names compare by bytes, as in SQLite.

CREATE TABLE repositories (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    access_epoch BIGINT NOT NULL DEFAULT 0,
    last_event BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);

CREATE TABLE branches_and_tags (
    repository TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    tag BOOLEAN NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (repository, name)
);

CREATE TABLE objects (
    repository TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL,
    data BYTEA NOT NULL,
    referenced_at BIGINT NOT NULL,
    PRIMARY KEY (repository, hash)
);

CREATE TABLE documents (
    kind TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    body BYTEA NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (kind, tenant, key)
);

CREATE TABLE idempotency (
    repository TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    principal TEXT NOT NULL,
    operation TEXT NOT NULL,
    request_hash BYTEA NOT NULL,
    commit_hash BYTEA,
    error TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (repository, key)
);

CREATE INDEX idempotency_by_age ON idempotency (repository, created_at);

CREATE TABLE events (
    repository TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    kind TEXT NOT NULL,
    body BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (repository, number)
);
