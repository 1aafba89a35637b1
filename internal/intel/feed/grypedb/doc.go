// Package grypedb reads a Grype vulnerability database of schema 6
// (https://github.com/anchore/grype, grype/db/v6): an SQLite file, opened for
// reading only, whose tables are looked at and whose code (views, triggers,
// virtual tables) is refused.
package grypedb
