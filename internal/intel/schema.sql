-- The form of a bundle. Raise Schema in manifest.go with any change here.
-- "feed" is the source that a row came from, so that one source's rows can be
-- carried over from the bundle before. A row's id is its publisher's record;
-- what comes after "#" tells apart the vulnerabilities of one record.

-- What a finding shows of an advisory: packed JSON (pack.go) of vuln.Advisory.
CREATE TABLE advisory (
  feed   TEXT NOT NULL,
  id     TEXT NOT NULL,
  detail BLOB NOT NULL,
  PRIMARY KEY (feed, id)
) WITHOUT ROWID;

-- Which versions of a package it means: []vuln.Affected (encode.go).
CREATE TABLE affected (
  ecosystem TEXT NOT NULL,
  name      TEXT NOT NULL,
  feed      TEXT NOT NULL,
  id        TEXT NOT NULL,
  versions  BLOB NOT NULL,
  PRIMARY KEY (ecosystem, name, feed, id)
) WITHOUT ROWID;

-- Severities by CVE, each publisher's; id is the record that gave it.
CREATE TABLE rating (
  cve      TEXT NOT NULL,
  feed     TEXT NOT NULL,
  id       TEXT NOT NULL,
  severity TEXT NOT NULL,
  source   TEXT NOT NULL,
  cvss     TEXT NOT NULL,
  PRIMARY KEY (cve, feed, id)
) WITHOUT ROWID;

-- Vulnerabilities that are known to be exploited.
CREATE TABLE exploited (
  cve   TEXT NOT NULL,
  feed  TEXT NOT NULL,
  added TEXT NOT NULL,
  PRIMARY KEY (cve, feed)
) WITHOUT ROWID;

-- How likely exploitation is (EPSS), in units of 1/100,000.
CREATE TABLE likelihood (
  cve        TEXT NOT NULL,
  feed       TEXT NOT NULL,
  score      INTEGER NOT NULL,
  percentile INTEGER NOT NULL,
  PRIMARY KEY (cve, feed)
) WITHOUT ROWID;

-- Hashes of malicious files: 32 bytes are SHA-256, 16 are MD5.
CREATE TABLE malware (
  hash BLOB NOT NULL,
  feed TEXT NOT NULL,
  name TEXT NOT NULL,
  PRIMARY KEY (hash, feed)
) WITHOUT ROWID;

-- Peers on the network that tell of malicious software. ends is a Unix time, 0
-- when the publisher states none.
CREATE TABLE indicator (
  kind       TEXT NOT NULL,
  value      TEXT NOT NULL,
  feed       TEXT NOT NULL,
  name       TEXT NOT NULL,
  confidence INTEGER NOT NULL,
  ends       INTEGER NOT NULL,
  PRIMARY KEY (kind, value, feed)
) WITHOUT ROWID;

-- Detections as content/detections has them: file name and YAML.
CREATE TABLE detection (
  feed TEXT NOT NULL,
  name TEXT NOT NULL,
  text BLOB NOT NULL,
  PRIMARY KEY (feed, name)
) WITHOUT ROWID;

-- Bloom filters (filter.go) over the keys of a table, made from its rows: most
-- packages and files have nothing known of them.
CREATE TABLE filter (
  name TEXT NOT NULL PRIMARY KEY,
  bits BLOB NOT NULL
) WITHOUT ROWID;
