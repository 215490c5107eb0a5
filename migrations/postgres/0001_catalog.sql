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

-- Everything one write does, in one round trip and so in one transaction. What is elsewhere than the caller believes raises
-- FR001 (a reference), FR002 (a document), FR003 (an idempotency key) or FR004 (no such repository): then nothing was done.
CREATE FUNCTION catalog_write(
    in_repository TEXT,
    create_repository BOOLEAN,
    raise_access_epoch BOOLEAN,
    reference_names TEXT[], reference_tags BOOLEAN[], reference_froms BYTEA[], reference_tos BYTEA[],
    document_kinds TEXT[], document_tenants TEXT[], document_keys TEXT[], document_expected BIGINT[], document_bodies BYTEA[],
    idempotency_keys TEXT[], principals TEXT[], operations TEXT[], request_hashes BYTEA[], commit_hashes BYTEA[], errors TEXT[],
    idempotency_kept_us BIGINT,
    object_hashes BYTEA[], object_data BYTEA[],
    event_kinds TEXT[], event_bodies BYTEA[]
) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    now_us BIGINT := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    was BYTEA;
    first_event BIGINT;
BEGIN
    IF create_repository THEN
        INSERT INTO repositories (name, created_at) VALUES (in_repository, now_us) ON CONFLICT (name) DO NOTHING;
    END IF;

    FOR i IN 1 .. cardinality(reference_names) LOOP
        IF reference_froms[i] IS NULL THEN
            INSERT INTO branches_and_tags (repository, name, tag, hash)
                VALUES (in_repository, reference_names[i], reference_tags[i], reference_tos[i])
                ON CONFLICT (repository, name) DO NOTHING;
        ELSIF reference_tos[i] IS NULL THEN
            DELETE FROM branches_and_tags
                WHERE repository = in_repository AND name = reference_names[i] AND tag = reference_tags[i]
                AND hash = reference_froms[i];
        ELSE
            UPDATE branches_and_tags SET hash = reference_tos[i]
                WHERE repository = in_repository AND name = reference_names[i] AND tag = reference_tags[i]
                AND hash = reference_froms[i];
        END IF;
        IF NOT FOUND THEN
            SELECT hash INTO was FROM branches_and_tags WHERE repository = in_repository AND name = reference_names[i];
            RAISE EXCEPTION USING ERRCODE = 'FR001', MESSAGE = reference_names[i], DETAIL = coalesce(encode(was, 'hex'), '');
        END IF;
    END LOOP;

    -- Again, since another transaction may have held a reference for a while.
    now_us := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    FOR i IN 1 .. cardinality(document_keys) LOOP
        IF document_bodies[i] IS NULL THEN
            DELETE FROM documents WHERE kind = document_kinds[i] AND tenant = document_tenants[i] AND key = document_keys[i]
                AND (document_expected[i] IS NULL OR version = document_expected[i]);
        ELSIF document_expected[i] IS NULL THEN
            INSERT INTO documents (kind, tenant, key, version, body, updated_at)
                VALUES (document_kinds[i], document_tenants[i], document_keys[i], 1, document_bodies[i], now_us)
                ON CONFLICT (kind, tenant, key) DO UPDATE
                SET version = documents.version + 1, body = excluded.body, updated_at = excluded.updated_at;
        ELSIF document_expected[i] = 0 THEN
            INSERT INTO documents (kind, tenant, key, version, body, updated_at)
                VALUES (document_kinds[i], document_tenants[i], document_keys[i], 1, document_bodies[i], now_us)
                ON CONFLICT (kind, tenant, key) DO NOTHING;
        ELSE
            UPDATE documents SET version = version + 1, body = document_bodies[i], updated_at = now_us
                WHERE kind = document_kinds[i] AND tenant = document_tenants[i] AND key = document_keys[i]
                AND version = document_expected[i];
        END IF;
        IF NOT FOUND AND document_expected[i] IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'FR002', MESSAGE = document_keys[i], DETAIL = document_kinds[i];
        END IF;
    END LOOP;

    IF cardinality(idempotency_keys) > 0 THEN
        DELETE FROM idempotency WHERE repository = in_repository AND created_at < now_us - idempotency_kept_us;
    END IF;
    FOR i IN 1 .. cardinality(idempotency_keys) LOOP
        INSERT INTO idempotency (repository, key, principal, operation, request_hash, commit_hash, error, created_at)
            VALUES (in_repository, idempotency_keys[i], principals[i], operations[i], request_hashes[i], commit_hashes[i],
                errors[i], now_us)
            ON CONFLICT (repository, key) DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'FR003', MESSAGE = idempotency_keys[i];
        END IF;
    END LOOP;

    IF cardinality(object_hashes) > 0 THEN
        INSERT INTO objects (repository, hash, data, referenced_at)
            SELECT in_repository, given.hash, given.data, now_us FROM unnest(object_hashes, object_data) AS given (hash, data)
            ON CONFLICT (repository, hash) DO UPDATE SET referenced_at = excluded.referenced_at;
    END IF;

    IF raise_access_epoch THEN
        UPDATE repositories SET access_epoch = access_epoch + 1 WHERE name = in_repository;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'FR004', MESSAGE = in_repository;
        END IF;
    END IF;

    IF cardinality(event_kinds) > 0 THEN
        UPDATE repositories SET last_event = last_event + cardinality(event_kinds) WHERE name = in_repository
            RETURNING last_event - cardinality(event_kinds) INTO first_event;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'FR004', MESSAGE = in_repository;
        END IF;
        INSERT INTO events (repository, number, kind, body, created_at)
            SELECT in_repository, first_event + given.place, given.kind, given.body, now_us
            FROM unnest(event_kinds, event_bodies) WITH ORDINALITY AS given (kind, body, place);
    END IF;
END $$;
