-- The coordinator's durable truth. Times are RFC 3339 UTC text; hashes are lowercase hex.
CREATE TABLE IF NOT EXISTS sites (
    site_id            TEXT PRIMARY KEY,
    name               TEXT NOT NULL,
    card               BLOB NOT NULL,              -- canonical SignedDocument (context card)
    identity_key       TEXT NOT NULL UNIQUE,
    node_key           TEXT NOT NULL UNIQUE,       -- P-384 SPKI DER, hex
    certificate_sha256 TEXT NOT NULL UNIQUE,       -- of the DER; pinned by the gateway
    certificate_pem    TEXT NOT NULL,
    node_id            TEXT UNIQUE,                -- the transport's unsigned 64-bit number, decimal
    enrolled_at        TEXT NOT NULL,
    last_seen          TEXT
) STRICT;

CREATE TABLE IF NOT EXISTS invites (
    code_sha256 TEXT PRIMARY KEY,
    site_id     TEXT NOT NULL,
    created     TEXT NOT NULL,
    expires     TEXT NOT NULL,
    used_at     TEXT
) STRICT;

CREATE TABLE IF NOT EXISTS tokens (
    token_sha256 TEXT PRIMARY KEY,
    holder       TEXT NOT NULL,
    role         TEXT NOT NULL CHECK (role IN ('vendor', 'researcher')),
    created      TEXT NOT NULL,
    revoked_at   TEXT
) STRICT;

CREATE TABLE IF NOT EXISTS studies (
    digest      TEXT PRIMARY KEY,
    study_id    TEXT NOT NULL,
    plan        BLOB NOT NULL,                     -- canonical SignedDocument (context plan)
    state       TEXT NOT NULL,
    reason_code TEXT NOT NULL DEFAULT '',
    created     TEXT NOT NULL,
    updated     TEXT NOT NULL,
    expires     TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS studies_by_id ON studies (study_id, created);

-- A table of their own: who lists studies does not read a hundred megabytes on the way.
CREATE TABLE IF NOT EXISTS weights (
    digest TEXT PRIMARY KEY REFERENCES studies,
    body   BLOB NOT NULL                           -- safetensors; of studies that start from a file
) STRICT;

CREATE TABLE IF NOT EXISTS approvals (
    digest      TEXT NOT NULL REFERENCES studies,
    site_id     TEXT NOT NULL,
    body        BLOB NOT NULL,                     -- canonical SignedDocument (context approval)
    received_at TEXT NOT NULL,
    PRIMARY KEY (digest, site_id)
) STRICT;

CREATE TABLE IF NOT EXISTS stops (
    digest      TEXT NOT NULL REFERENCES studies,
    site_id     TEXT NOT NULL,
    reason_code TEXT NOT NULL,
    body        BLOB NOT NULL,                     -- canonical SignedDocument (context stop)
    received_at TEXT NOT NULL,
    PRIMARY KEY (digest, site_id)
) STRICT;

CREATE TABLE IF NOT EXISTS waits (
    digest      TEXT NOT NULL REFERENCES studies,
    site_id     TEXT NOT NULL,
    reason_code TEXT NOT NULL,                     -- the last code this site gave or caused
    since       TEXT NOT NULL,
    PRIMARY KEY (digest, site_id)
) STRICT;

CREATE TABLE IF NOT EXISTS attempts (
    digest      TEXT NOT NULL REFERENCES studies,
    kind        TEXT NOT NULL CHECK (kind IN ('train', 'evaluate')),
    round       INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('open', 'summed', 'void')),
    roster      TEXT NOT NULL,                     -- JSON array of site ids, sorted
    opened      TEXT NOT NULL,
    closed      TEXT,
    seconds     REAL,
    reason_code TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (digest, kind, round, attempt)
) STRICT;

CREATE TABLE IF NOT EXISTS sums (
    digest   TEXT NOT NULL REFERENCES studies,
    round    INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    words    BLOB NOT NULL,                        -- little-endian uint32, noised at the sites
    tag      INTEGER NOT NULL,                     -- below 2^61
    PRIMARY KEY (digest, round)
) STRICT;

CREATE TABLE IF NOT EXISTS cohorts (
    digest  TEXT NOT NULL REFERENCES studies,
    round   INTEGER NOT NULL,
    readies BLOB NOT NULL,                         -- JSON array of signed READYs behind the sum
    PRIMARY KEY (digest, round)
) STRICT;

CREATE TABLE IF NOT EXISTS survivors (
    digest TEXT NOT NULL REFERENCES studies,
    round  INTEGER NOT NULL,
    sites  TEXT NOT NULL,                          -- JSON array: who contributed, if not all did
    PRIMARY KEY (digest, round)
) STRICT;

CREATE TABLE IF NOT EXISTS finals (
    digest     TEXT NOT NULL REFERENCES studies,
    site_id    TEXT NOT NULL,
    model_hash TEXT NOT NULL,
    body       BLOB NOT NULL,                      -- canonical SignedDocument (context final)
    PRIMARY KEY (digest, site_id)
) STRICT;

CREATE TABLE IF NOT EXISTS models (
    digest      TEXT PRIMARY KEY REFERENCES studies,
    model_hash  TEXT NOT NULL,                     -- of the parameters, as the sites signed it
    safetensors BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS releases (
    digest      TEXT PRIMARY KEY REFERENCES studies,
    body        BLOB NOT NULL,                     -- canonical release bytes, the same at every site
    signatures  TEXT NOT NULL,                     -- JSON object: site id -> signature
    received_at TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS received (
    site_id    TEXT NOT NULL,
    study_id   TEXT NOT NULL,                      -- '' for what belongs to no study
    kind       TEXT NOT NULL,
    n_messages INTEGER NOT NULL,
    n_bytes    INTEGER NOT NULL,
    PRIMARY KEY (site_id, study_id, kind)
) STRICT;

CREATE TABLE IF NOT EXISTS events (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    time        TEXT NOT NULL,
    event       TEXT NOT NULL,
    digest      TEXT NOT NULL DEFAULT '',
    attributes  TEXT NOT NULL,                     -- JSON object, codes and numbers only
    previous    TEXT NOT NULL,
    hash        TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS events_are_kept BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER IF NOT EXISTS events_stay BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
