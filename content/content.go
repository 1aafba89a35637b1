// Package content is Breakwater's knowledge as data: the policies it starts
// with and the detections it watches for. Go code here only embeds the files.
package content

import (
	"embed"
	"io/fs"
)

//go:embed policies/*.yaml
var policies embed.FS

// Policies holds baseline.yaml, which a new installation starts with, and
// strict.yaml, an example to copy.
func Policies() fs.FS { return sub(policies, "policies") }

//go:embed detections/*.yaml
var detections embed.FS

// Detections holds one file per detection; package detect reads them.
func Detections() fs.FS { return sub(detections, "detections") }

//go:embed programs/*.yaml
var programs embed.FS

// Programs holds programs.yaml, evidence of programs outside of package
// managers, and artifacts.yaml, the groups of Java artifacts whose archives do
// not state one; packages inventory/program and inventory/jar read them.
func Programs() fs.FS { return sub(programs, "programs") }

//go:embed secrets/*.yaml
var secrets embed.FS

// Secrets holds the rules that know credentials; package secret reads them.
func Secrets() fs.FS { return sub(secrets, "secrets") }

//go:embed distributions.yaml
var distributions embed.FS

// DistributionsFile is the name of the one file in Distributions.
const DistributionsFile = "distributions.yaml"

// Distributions holds the ends of life of distributions' releases; package
// inventory/osrelease reads them.
func Distributions() fs.FS { return distributions }

func sub(files embed.FS, dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil { // only for an invalid name, and ours are constants
		panic(err)
	}
	return f
}
