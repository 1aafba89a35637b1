-- The form of a bundle. Raise Schema in manifest.go with any change here.
-- "feed" is the source that a row came from, so that one source's rows can be
-- carried over from the bundle before.

-- What a finding shows of an advisory: packed JSON (pack.go) of vuln.Advisory.
CREATE TABLE advisory (
  feed   TEXT NOT NULL,
  id     TEXT NOT NULL,
  detail BLOB NOT NULL,
  PRIMARY KEY (feed, id)
) WITHOUT ROWID;

-- Which versions of a package it means: packed JSON of []vuln.Affected.
CREATE TABLE affected (
  ecosystem TEXT NOT NULL,
  name      TEXT NOT NULL,
  feed      TEXT NOT NULL,
  id        TEXT NOT NULL,
  versions  BLOB NOT NULL,
  PRIMARY KEY (ecosystem, name, feed, id)
) WITHOUT ROWID;

-- Severities by CVE, for publishers that give none with their advisories.
CREATE TABLE rating (
  cve      TEXT NOT NULL,
  feed     TEXT NOT NULL,
  severity TEXT NOT NULL,
  source   TEXT NOT NULL,
  cvss     TEXT NOT NULL,
  PRIMARY KEY (cve, feed)
) WITHOUT ROWID;

-- Vulnerabilities that are known to be exploited.
CREATE TABLE exploited (
  cve   TEXT NOT NULL,
  feed  TEXT NOT NULL,
  added TEXT NOT NULL,
  PRIMARY KEY (cve, feed)
) WITHOUT ROWID;
