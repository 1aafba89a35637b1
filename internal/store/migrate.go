package store

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations bring the schema forward, one transaction each. A migration that
// was released is never changed; the next one mends it.
var migrations = [...]string{
	// 1: the first schema.
	`
CREATE TABLE agents (
	id       TEXT PRIMARY KEY,
	host     TEXT NOT NULL,
	nkey     TEXT NOT NULL UNIQUE,
	stage    TEXT NOT NULL DEFAULT '',
	enrolled BIGINT NOT NULL,
	revoked  BIGINT NOT NULL DEFAULT 0,
	seen     BIGINT NOT NULL DEFAULT 0,
	status   BLOB
);
CREATE TABLE containers (
	agent      TEXT NOT NULL REFERENCES agents(id) ON DELETE CASCADE,
	id         TEXT NOT NULL,
	name       TEXT NOT NULL,
	image      TEXT NOT NULL,
	mode       TEXT NOT NULL,
	generation BIGINT NOT NULL,
	PRIMARY KEY (agent, id)
);
CREATE INDEX containers_image ON containers (image);

CREATE TABLE incidents (
	id        INTEGER PRIMARY KEY AUTOINCREMENT,
	agent     TEXT NOT NULL,
	key       TEXT NOT NULL,
	time      BIGINT NOT NULL,
	received  BIGINT NOT NULL,
	host      TEXT NOT NULL,
	severity  INTEGER NOT NULL,
	outcome   TEXT NOT NULL,
	control   TEXT NOT NULL,
	policy    TEXT NOT NULL,
	detection TEXT NOT NULL,
	container TEXT NOT NULL,
	name      TEXT NOT NULL,
	image     TEXT NOT NULL,
	sentence  TEXT NOT NULL,
	body      BLOB NOT NULL,
	UNIQUE (key, agent)
);
CREATE INDEX incidents_received ON incidents (received, severity, outcome);
CREATE INDEX incidents_container ON incidents (container, id);
CREATE INDEX incidents_image ON incidents (image, id);
CREATE INDEX incidents_host ON incidents (host, id);
CREATE INDEX incidents_policy ON incidents (policy, id);
CREATE INDEX incidents_detection ON incidents (detection, id);

CREATE TABLE events (
	id        INTEGER PRIMARY KEY AUTOINCREMENT,
	agent     TEXT NOT NULL,
	key       TEXT NOT NULL,
	time      BIGINT NOT NULL,
	received  BIGINT NOT NULL,
	kind      TEXT NOT NULL,
	container TEXT NOT NULL,
	body      BLOB NOT NULL,
	UNIQUE (key, agent)
);
CREATE INDEX events_container ON events (container, id);

CREATE TABLE rejects (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	agent    TEXT NOT NULL,
	key      TEXT NOT NULL,
	received BIGINT NOT NULL,
	reason   TEXT NOT NULL,
	body     BLOB NOT NULL,
	UNIQUE (key, agent)
);

CREATE TABLE images (
	digest   TEXT PRIMARY KEY,
	name     TEXT NOT NULL,
	refs     TEXT NOT NULL,
	platform TEXT NOT NULL,
	scanned  BIGINT NOT NULL,
	worst    INTEGER NOT NULL,
	findings INTEGER NOT NULL,
	fixable  INTEGER NOT NULL,
	packages INTEGER NOT NULL,
	gaps     INTEGER NOT NULL,
	refused  INTEGER NOT NULL DEFAULT 0,
	verdict  BLOB,
	judged   BIGINT NOT NULL DEFAULT 0,
	report   BLOB NOT NULL
);

CREATE TABLE policies (
	name    TEXT NOT NULL,
	version INTEGER NOT NULL,
	source  TEXT NOT NULL,
	author  TEXT NOT NULL,
	time    BIGINT NOT NULL,
	deleted INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (name, version)
);
CREATE TABLE generations (
	generation INTEGER PRIMARY KEY AUTOINCREMENT,
	time       BIGINT NOT NULL,
	author     TEXT NOT NULL,
	reason     TEXT NOT NULL
);

CREATE TABLE users (
	name    TEXT PRIMARY KEY,
	hash    TEXT NOT NULL,
	role    TEXT NOT NULL,
	created BIGINT NOT NULL,
	changed BIGINT NOT NULL
);
CREATE TABLE sessions (
	hash    BLOB PRIMARY KEY,
	"user"  TEXT NOT NULL REFERENCES users(name) ON DELETE CASCADE,
	created BIGINT NOT NULL,
	seen    BIGINT NOT NULL,
	address TEXT NOT NULL
);
CREATE TABLE tokens (
	hash    BLOB PRIMARY KEY,
	name    TEXT NOT NULL UNIQUE,
	role    TEXT NOT NULL,
	created BIGINT NOT NULL,
	expires BIGINT NOT NULL
);
CREATE TABLE enrolments (
	hash    BLOB PRIMARY KEY,
	author  TEXT NOT NULL,
	created BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	uses    INTEGER NOT NULL
);
CREATE TABLE audit (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	time    BIGINT NOT NULL,
	actor   TEXT NOT NULL,
	address TEXT NOT NULL,
	request TEXT NOT NULL,
	action  TEXT NOT NULL,
	object  TEXT NOT NULL,
	detail  TEXT NOT NULL
);
CREATE TABLE cursors (
	name     TEXT PRIMARY KEY,
	position BIGINT NOT NULL
);
CREATE TABLE settings (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
);
`,
	// 2: pages over a million incidents. What the overview counts it reads from
	// an index; images say what intelligence they were matched with (0: none).
	`
CREATE INDEX incidents_outcome ON incidents (outcome, id);
CREATE INDEX incidents_severity ON incidents (severity, id);
CREATE INDEX incidents_control ON incidents (control, id);
CREATE INDEX incidents_name ON incidents (name, id);
CREATE INDEX incidents_agent ON incidents (agent, id);
CREATE INDEX audit_object ON audit (object, id);
ALTER TABLE images ADD COLUMN matched BIGINT NOT NULL DEFAULT 0;
`,
	// 3: which report of an agent is the newest tells its sequence, for clocks go
	// back; images say which verdict an event told of last ('': none was given).
	`
CREATE TABLE report_positions (
	agent TEXT PRIMARY KEY,
	epoch TEXT NOT NULL,
	seq   BIGINT NOT NULL
);
ALTER TABLE images ADD COLUMN told TEXT NOT NULL DEFAULT '';
DROP TABLE settings;
`,
	// 4: what images hold can be asked for: packages, vulnerabilities, secrets and
	// malware, each once (things), their names, and which image holds which. A
	// package says by its gist what the server found of it last (NULL: it did not
	// look yet); images say by which bundle they were matched.
	`
CREATE TABLE image_numbers (
	number INTEGER PRIMARY KEY,
	digest TEXT NOT NULL UNIQUE
);
CREATE TABLE things (
	id   INTEGER PRIMARY KEY AUTOINCREMENT,
	key  BLOB NOT NULL UNIQUE,
	kind TEXT NOT NULL,
	body BLOB NOT NULL,
	gist BLOB
);
CREATE INDEX things_kind ON things (kind, id);
CREATE TABLE names (
	kind  TEXT NOT NULL,
	name  TEXT NOT NULL,
	thing BIGINT NOT NULL,
	PRIMARY KEY (kind, name, thing)
) WITHOUT ROWID;
CREATE INDEX names_thing ON names (thing);
CREATE TABLE holds (
	thing BIGINT NOT NULL,
	image BIGINT NOT NULL,
	PRIMARY KEY (thing, image)
) WITHOUT ROWID;
CREATE INDEX holds_image ON holds (image, thing);
ALTER TABLE images ADD COLUMN bundle TEXT NOT NULL DEFAULT '';
CREATE TABLE matched_by (
	bundle TEXT NOT NULL
);
`,
	// 5: registries that the server reads by itself, and what it knows of each tag.
	// A row without a tag is about its repository.
	`
CREATE TABLE registries (
	name    TEXT PRIMARY KEY,
	body    BLOB NOT NULL,
	secret  BLOB NOT NULL,
	created BIGINT NOT NULL,
	due     BIGINT NOT NULL DEFAULT 0,
	listed  BIGINT NOT NULL DEFAULT 0,
	error   TEXT NOT NULL DEFAULT ''
);
CREATE TABLE targets (
	registry   TEXT NOT NULL REFERENCES registries(name) ON DELETE CASCADE,
	repository TEXT NOT NULL,
	tag        TEXT NOT NULL,
	manifest   TEXT NOT NULL DEFAULT '',
	image      TEXT NOT NULL DEFAULT '',
	pending    INTEGER NOT NULL DEFAULT 0,
	priority   INTEGER NOT NULL DEFAULT 0,
	due        BIGINT NOT NULL DEFAULT 0,
	tried      BIGINT NOT NULL DEFAULT 0,
	scanned    BIGINT NOT NULL DEFAULT 0,
	failures   INTEGER NOT NULL DEFAULT 0,
	error      TEXT NOT NULL DEFAULT '',
	PRIMARY KEY (registry, repository, tag)
);
CREATE INDEX targets_pending ON targets (registry, pending, priority DESC, due);
CREATE INDEX targets_image ON targets (image);
`,
	// 6: images say who read them: '' hosts and the server itself, else a CI's token.
	`
ALTER TABLE images ADD COLUMN origin TEXT NOT NULL DEFAULT '';
`,
	// 7: new intelligence judges every image without its report: reports lie apart,
	// so that a changed verdict rewrites none; an inventory is an image's packages by
	// number, in the order of its report, and the rest that policy judges; which
	// bundle matched an image is a number, so that a newer one is one row. What is
	// known of a package is said once for all images (affects); an image of which a
	// statement or a baseline says otherwise is in spares.
	`
CREATE TABLE reports (
	digest TEXT PRIMARY KEY,
	report BLOB NOT NULL
);
INSERT INTO reports (digest, report) SELECT digest, report FROM images;
ALTER TABLE images DROP COLUMN report;
CREATE TABLE inventories (
	image    INTEGER PRIMARY KEY,
	packages BLOB NOT NULL,
	rest     BLOB NOT NULL
);
CREATE TABLE bundles (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	version TEXT NOT NULL,
	built   BIGINT NOT NULL
);
INSERT INTO bundles (version, built) SELECT bundle, MAX(matched) FROM images WHERE bundle <> '' GROUP BY bundle;
ALTER TABLE images ADD COLUMN bundle_id BIGINT NOT NULL DEFAULT 0;
UPDATE images SET bundle_id = COALESCE((SELECT id FROM bundles b WHERE b.version = images.bundle AND images.bundle <> ''), 0);
ALTER TABLE images DROP COLUMN bundle;
ALTER TABLE images DROP COLUMN matched;
CREATE INDEX images_bundle ON images (bundle_id);
CREATE TABLE affects (
	package       BIGINT NOT NULL,
	vulnerability BIGINT NOT NULL,
	PRIMARY KEY (package, vulnerability)
) WITHOUT ROWID;
CREATE INDEX affects_vulnerability ON affects (vulnerability, package);
CREATE TABLE spares (
	image         BIGINT NOT NULL,
	package       BIGINT NOT NULL,
	vulnerability BIGINT NOT NULL,
	PRIMARY KEY (image, package, vulnerability)
) WITHOUT ROWID;
DELETE FROM holds WHERE thing IN (SELECT id FROM things WHERE kind = 'vulnerability');
`,
	// 8: what is enforced of what intelligence brought.
	`
CREATE TABLE promotions (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	kind    TEXT NOT NULL,
	value   TEXT NOT NULL,
	source  TEXT NOT NULL,
	reason  TEXT NOT NULL,
	ends    BIGINT NOT NULL,
	author  TEXT NOT NULL,
	created BIGINT NOT NULL,
	UNIQUE (kind, value, source)
);
`,
	// 9: VEX documents that an administrator added.
	`
CREATE TABLE vex_documents (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	name       TEXT NOT NULL UNIQUE,
	document   BLOB NOT NULL,
	statements INTEGER NOT NULL,
	reason     TEXT NOT NULL,
	author     TEXT NOT NULL,
	created    BIGINT NOT NULL
);
`,
	// 10: incidents of one process tree are one story, which is known by the number
	// of its first incident; its newest word is that of the highest revision. An
	// incident rises when it begins its story or makes it worse.
	`
ALTER TABLE incidents ADD COLUMN story BIGINT NOT NULL DEFAULT 0;
ALTER TABLE incidents ADD COLUMN rises INTEGER NOT NULL DEFAULT 1;
UPDATE incidents SET story = id;
CREATE INDEX incidents_story ON incidents (story, id);
CREATE TABLE stories (
	id       INTEGER PRIMARY KEY,
	agent    TEXT NOT NULL,
	key      TEXT NOT NULL,
	revision BIGINT NOT NULL,
	severity INTEGER NOT NULL,
	body     BLOB NOT NULL,
	UNIQUE (key, agent)
);
CREATE INDEX stories_severity ON stories (severity);
`,
	// 11: acts that an administrator excepted from incidents; and how often each
	// detection and control told of something, by hours of arrival.
	`
CREATE TABLE exceptions (
	id        INTEGER PRIMARY KEY AUTOINCREMENT,
	body      BLOB NOT NULL,
	detection TEXT NOT NULL,
	incident  BIGINT NOT NULL,
	reason    TEXT NOT NULL,
	ends      BIGINT NOT NULL,
	author    TEXT NOT NULL,
	created   BIGINT NOT NULL
);
CREATE TABLE rule_hours (
	hour      BIGINT NOT NULL,
	detection TEXT NOT NULL,
	control   TEXT NOT NULL,
	count     BIGINT NOT NULL,
	last      BIGINT NOT NULL,
	PRIMARY KEY (hour, detection, control)
) WITHOUT ROWID;
INSERT INTO rule_hours SELECT received / 3600000000000, detection, control, COUNT(*), MAX(received) FROM incidents GROUP BY 1, 2, 3;
`,
}

// migrate brings the database to the newest schema. The version stands in a
// table, not in a pragma, for the sake of other databases.
func (s *Store) migrate(ctx context.Context) error {
	if _, err := s.exec(ctx, "migrate", `CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)`); err != nil {
		return err
	}
	for {
		done, err := s.migrateOne(ctx)
		if err != nil || done {
			return err
		}
	}
}

// migrateOne takes one step. Reading the version inside the transaction keeps
// two processes that open the file together from taking the same step twice.
func (s *Store) migrateOne(ctx context.Context) (done bool, err error) {
	err = s.tx(ctx, "migrate", func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_version`).Scan(&version); err != nil {
			return err
		}
		if version > len(migrations) {
			return fmt.Errorf("its schema has version %d, this program knows %d: use the newer breakwater that made it, or a backup", version, len(migrations))
		}
		if done = version == len(migrations); done {
			return nil
		}
		if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
			return fmt.Errorf("to version %d: %w", version+1, err)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO schema_version (version) VALUES ($1)`, version+1)
		return err
	})
	return done, err
}
