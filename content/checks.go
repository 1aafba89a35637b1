package content

import (
	"embed"
	"io/fs"
)

//go:embed checks/*.yaml
var checks embed.FS

// Checks holds the checks of Dockerfiles, manifests, Compose files and image
// configurations, one file per format; package check reads them.
func Checks() fs.FS { return sub(checks, "checks") }
