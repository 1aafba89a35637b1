// Package dockerfile reads Dockerfiles (and Containerfiles) as the builders of
// Docker and Podman do: parser directives, continued lines, here-documents,
// flags, the JSON form, build arguments and several stages. The result is made
// for checks: typed, with the line of everything, and with the commands of RUN
// taken apart.
//
// The format is that of Docker's Dockerfile reference. A file may have
// MaxBytes; nothing of it is run, and build arguments have their defaults.
package dockerfile

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The bounds of a file.
const (
	MaxBytes        = 1 << 20
	maxInstructions = 2_000
	maxCommands     = 5_000   // of all instructions
	maxValues       = 4 << 20 // bytes of all values and words with variables put in
)

// File is one Dockerfile.
type File struct {
	Syntax  string   `json:"syntax"` // of the directive "# syntax="; empty without one
	Args    []Pair   `json:"args"`   // of ARG before the first FROM
	Stages  []*Stage `json:"stages"`
	Targets []string `json:"targets"` // names of the stages
}

// Stage is FROM and what follows it.
type Stage struct {
	Name         string         `json:"name"` // after AS; empty without
	Index        int            `json:"index"`
	Line         int            `json:"line"`
	Base         Base           `json:"base"`
	Origin       string         `json:"origin"`   // the image at the end of the stages that it builds on
	Platform     string         `json:"platform"` // of --platform, as written
	Final        bool           `json:"final"`    // the last one, which becomes the image
	Used         bool           `json:"used"`     // final, or another stage builds on it or copies from it
	User         string         `json:"user"`     // the last USER, inherited from a stage of the file; "" when none says
	Entrypoints  int            `json:"entrypoints"`
	Cmds         int            `json:"cmds"`
	Healthchecks int            `json:"healthchecks"`
	Instructions []*Instruction `json:"instructions"`
}

// Base is what a stage builds on.
type Base struct {
	Text       string `json:"text"`       // as written
	Reference  string `json:"reference"`  // with build arguments put in
	Repository string `json:"repository"` // without tag and digest
	Tag        string `json:"tag"`
	Digest     string `json:"digest"`
	Stage      bool   `json:"stage"`   // another stage of this file
	Scratch    bool   `json:"scratch"` // nothing
	Known      bool   `json:"known"`   // false when a build argument without a default is in it
}

// Pair is one NAME=value of ENV, ARG or LABEL.
type Pair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Set   bool   `json:"set"` // false for ARG without a default
}

// Instruction is one instruction with what is in effect there.
type Instruction struct {
	Name     string            `json:"name"` // upper case
	Line     int               `json:"line"`
	Text     string            `json:"text"`     // what follows the name and the flags, lines joined
	Written  string            `json:"written"`  // the name as written
	Args     []string          `json:"args"`     // words, or the elements of the JSON form; arguments put in except in RUN, CMD and ENTRYPOINT
	JSON     bool              `json:"json"`     // the JSON (exec) form
	Flags    map[string]string `json:"flags"`    // --name=value; several of a name are joined by a space
	Pairs    []Pair            `json:"pairs"`    // of ENV, ARG and LABEL
	Commands []Command         `json:"commands"` // of RUN, and of the shell form of CMD, ENTRYPOINT and HEALTHCHECK
	OnBuild  bool              `json:"onBuild"`
	Trigger  string            `json:"trigger"` // of ONBUILD: the instruction it holds
	User     string            `json:"user"`    // in effect before it
	Workdir  string            `json:"workdir"` // in effect before it; "" when none was set
	Shell    string            `json:"shell"`   // the program of SHELL; "" for the default
	Last     bool              `json:"last"`    // no instruction follows in the stage
	Heredocs int               `json:"heredocs"`
	Obsolete bool              `json:"obsolete"` // ENV or LABEL in the form "NAME value"
}

// Error is what makes a file no Dockerfile.
type Error struct {
	File    string
	Line    int
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message) }

// Parse reads a file; name stands in errors, which are an *Error.
func Parse(name string, data []byte) (*File, error) {
	fail := func(line int, format string, args ...any) (*File, error) {
		return nil, &Error{name, max(line, 1), fmt.Sprintf(format, args...)}
	}
	switch {
	case len(data) > MaxBytes:
		return fail(1, "has %d bytes; at most %d are read", len(data), MaxBytes)
	case !utf8.Valid(data):
		return fail(1, "is not UTF-8 text")
	}
	r := newReader(string(data))
	raw, line, problem := r.instructions()
	if problem != "" {
		return fail(line, "%s", problem)
	}
	b := builder{file: &File{Syntax: r.syntax, Args: []Pair{}, Stages: []*Stage{}, Targets: []string{}}, escape: r.escape, commands: maxCommands, room: maxValues}
	for _, one := range raw {
		if problem := b.add(one); problem != "" {
			return fail(one.line, "%s", problem)
		}
	}
	if len(b.file.Stages) == 0 {
		return fail(1, "has no FROM: it is no Dockerfile")
	}
	b.finish()
	return b.file, nil
}

// instructionNames are those of the Dockerfile reference.
var instructionNames = strings.Fields("ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR")
