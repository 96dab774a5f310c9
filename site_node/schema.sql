-- What must survive a power cut at this hospital? One file: log, ledger, journal, manifest.
-- Audit and ledger rows are append-only; the triggers stop honest mistakes, the signed chains
-- show dishonest ones.

CREATE TABLE IF NOT EXISTS meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS audit (
    idx INTEGER PRIMARY KEY CHECK (idx >= 0),
    body BLOB NOT NULL,
    hash TEXT NOT NULL,
    checkpoint BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS ledger (
    idx INTEGER PRIMARY KEY CHECK (idx >= 0),
    body BLOB NOT NULL,
    head TEXT NOT NULL,
    signature BLOB NOT NULL,
    written_at TEXT NOT NULL
) STRICT;

CREATE TRIGGER IF NOT EXISTS audit_is_append_only_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_is_append_only_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS ledger_is_append_only_update BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS ledger_is_append_only_delete BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'append-only'); END;

-- Identity cards of the other hospitals; confirmed_at is a steward's word, never the network's.
CREATE TABLE IF NOT EXISTS peers (
    site_id TEXT PRIMARY KEY,
    card BLOB NOT NULL,
    fingerprint TEXT NOT NULL,
    imported_at TEXT NOT NULL,
    confirmed_at TEXT
) STRICT;

-- Documents that came from the coordinator, verified on arrival.
CREATE TABLE IF NOT EXISTS inbox (
    sha256 TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    study_id TEXT NOT NULL,
    plan_digest TEXT,
    body BLOB NOT NULL,
    received_at TEXT NOT NULL
) STRICT;

-- Documents waiting for the courier.
CREATE TABLE IF NOT EXISTS outbox (
    sha256 TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    body BLOB NOT NULL,
    queued_at TEXT NOT NULL,
    sent_at TEXT
) STRICT;

CREATE TABLE IF NOT EXISTS approvals (
    plan_digest TEXT PRIMARY KEY,
    study_id TEXT NOT NULL,
    statement BLOB NOT NULL,
    approved_at TEXT NOT NULL
) STRICT;

-- Secrets agreed with other hospitals by ML-KEM-768 when this one approved; sealed under kem.key.
CREATE TABLE IF NOT EXISTS kem_secrets (
    plan_digest TEXT NOT NULL,
    peer TEXT NOT NULL,
    ciphertext TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (plan_digest, peer)
) STRICT;

CREATE TABLE IF NOT EXISTS refusals (
    plan_digest TEXT PRIMARY KEY,
    study_id TEXT NOT NULL,
    reason_code TEXT NOT NULL,
    refused_at TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS stops (
    plan_digest TEXT PRIMARY KEY,
    study_id TEXT NOT NULL,
    reason_code TEXT NOT NULL,
    statement BLOB NOT NULL,
    stopped_at TEXT NOT NULL
) STRICT;

-- The highest round and attempt taken up, per plan and kind: nothing older is ever answered.
CREATE TABLE IF NOT EXISTS journal_rounds (
    plan_digest TEXT NOT NULL,
    kind TEXT NOT NULL,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (plan_digest, kind)
) STRICT;

CREATE TABLE IF NOT EXISTS journal_states (
    plan_digest TEXT NOT NULL,
    step INTEGER NOT NULL,
    state BLOB NOT NULL,
    last_sum_hash TEXT NOT NULL,
    PRIMARY KEY (plan_digest, step)
) STRICT;

CREATE TABLE IF NOT EXISTS journal_heads (
    ordinal INTEGER PRIMARY KEY,
    plan_digest TEXT NOT NULL,
    peer TEXT NOT NULL,
    head TEXT NOT NULL,
    UNIQUE (plan_digest, peer, head)
) STRICT;

CREATE TABLE IF NOT EXISTS journal_charges (
    plan_digest TEXT NOT NULL,
    peer        TEXT NOT NULL,
    charges     INTEGER NOT NULL,                  -- fewest a peer can have in its ledger by now
    PRIMARY KEY (plan_digest, peer)
) STRICT;

CREATE TABLE IF NOT EXISTS evaluation_snapshots (
    plan_digest TEXT PRIMARY KEY,
    sha256      TEXT NOT NULL                      -- of the test features; never leaves
) STRICT;

CREATE TABLE IF NOT EXISTS evaluation_rosters (
    plan_digest TEXT PRIMARY KEY,
    roster TEXT NOT NULL
) STRICT;

-- One row for each body the egress gate let go.
CREATE TABLE IF NOT EXISTS released (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    round INTEGER,
    attempt INTEGER,
    sha256 TEXT NOT NULL,
    n_bytes INTEGER NOT NULL,
    released_at TEXT NOT NULL
) STRICT;

-- The signed manifest: objects the gateway may forward, and for which released body.
CREATE TABLE IF NOT EXISTS manifest (
    object_id TEXT NOT NULL,
    released_id INTEGER NOT NULL REFERENCES released (id),
    sha256 TEXT NOT NULL,
    n_bytes INTEGER NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (object_id, released_id)
) STRICT, WITHOUT ROWID;

-- What the gateway put on the wire: each object, and byte totals for every path.
CREATE TABLE IF NOT EXISTS sent (
    id INTEGER PRIMARY KEY,
    object_id TEXT NOT NULL,
    path TEXT NOT NULL,
    n_bytes INTEGER NOT NULL,
    sent_at TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS sent_by_object ON sent (object_id);

CREATE TABLE IF NOT EXISTS byte_totals (
    path TEXT PRIMARY KEY,
    calls INTEGER NOT NULL,
    n_bytes INTEGER NOT NULL
) STRICT;
