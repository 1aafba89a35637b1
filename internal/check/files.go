package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/document"
)

// The formats, as Options.Kind names them.
const (
	Dockerfile = "dockerfile"
	Kubernetes = "kubernetes"
	Compose    = "compose"
)

// Kinds lists the formats of files.
func Kinds() []string { return []string{Dockerfile, Kubernetes, Compose} }

// maxFiles is how many files of one folder are looked at.
const maxFiles = 50_000

// Options say how files are judged.
type Options struct {
	Kind  string    // of all files; "" tells by name and content
	Now   time.Time // decides which ignoring comments still count
	Stdin io.Reader // read for the name "-"
}

// FilesResult is what was found in several files.
type FilesResult struct {
	Result
	Files []string // that were judged
}

// Files judges files and, below folders, each file that is one of the formats.
// A file that is named and cannot be judged is an error; one in a folder is a
// gap. Symbolic links below folders are not followed.
func (cs *Checks) Files(ctx context.Context, names []string, o Options) (FilesResult, error) {
	w := walker{checks: cs, o: o}
	for _, name := range names {
		if err := w.name(ctx, name); err != nil {
			return FilesResult{}, err
		}
	}
	return w.res, nil
}

type walker struct {
	checks *Checks
	o      Options
	res    FilesResult
	seen   int
}

func (w *walker) name(ctx context.Context, name string) error {
	if name == "-" {
		data, err := io.ReadAll(io.LimitReader(w.o.Stdin, document.MaxForeignBytes+1))
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		return w.file("stdin", data, true)
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return w.folder(ctx, name)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: is no regular file", name)
	}
	data, err := read(name)
	if err != nil {
		return err
	}
	return w.file(name, data, true)
}

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, document.MaxForeignBytes+1))
}

// skipped folders hold the files of others.
var skipped = []string{".git", "node_modules", ".venv", "__pycache__", ".terraform"}

func (w *walker) folder(ctx context.Context, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			w.res.Gaps = append(w.res.Gaps, err.Error())
			return nil
		case d.IsDir() && path != dir && slices.Contains(skipped, d.Name()):
			return filepath.SkipDir
		case d.IsDir() && isChart(path):
			w.res.Gaps = append(w.res.Gaps, path+": is a Helm chart: pipe what `helm template` writes to `breakwater check -`")
			return filepath.SkipDir
		case !d.Type().IsRegular() || byName(path) == "" && !isYAML(path):
			return nil
		}
		if w.seen++; w.seen > maxFiles {
			return fmt.Errorf("%s: has more than %d files: name a smaller folder", dir, maxFiles)
		}
		data, err := read(path)
		if err == nil {
			err = w.file(path, data, false)
		}
		if err != nil {
			w.res.Gaps = append(w.res.Gaps, err.Error())
		}
		return nil
	})
}

func isChart(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "Chart.yaml"))
	return err == nil
}

// errUnknown: the file is none of the formats.
var errUnknown = errors.New("is no Dockerfile, Kubernetes manifest or Compose file: say what it is with --type")

// file judges one file; named says that the user asked for this one.
func (w *walker) file(path string, data []byte, named bool) error {
	kind := w.o.Kind
	if kind == "" {
		kind = tell(path, data, named)
	}
	var res Result
	var err error
	switch kind {
	case Dockerfile:
		res, err = w.checks.Dockerfile(path, data, w.o.Now)
	case Kubernetes:
		res, err = w.checks.Kubernetes(path, data, w.o.Now)
	case Compose:
		res, err = w.checks.Compose(path, data, w.o.Now)
	default:
		if !named {
			return nil
		}
		return fmt.Errorf("%s: %w", path, errUnknown)
	}
	if err != nil {
		return err
	}
	w.res.Files = append(w.res.Files, path)
	w.res.Found = append(w.res.Found, res.Found...)
	w.res.Ignored = append(w.res.Ignored, res.Ignored...)
	w.res.Gaps = append(w.res.Gaps, res.Gaps...)
	return nil
}

// byName tells Dockerfiles by their customary names.
func byName(path string) string {
	name := strings.ToLower(filepath.Base(path))
	for _, word := range []string{"dockerfile", "containerfile"} {
		if name == word || strings.HasPrefix(name, word+".") && !isYAML(name) && !strings.HasSuffix(name, ".dockerignore") || strings.HasSuffix(name, "."+word) {
			return Dockerfile
		}
	}
	return ""
}

func isYAML(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

var (
	manifest  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^(?:apiVersion:|\{?\s*"apiVersion"\s*:)`) })
	ours      = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^apiVersion: breakwater/`) })
	kindLine  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^(?:kind:|\s*"kind"\s*:)|"kind"\s*:`) })
	services  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^(?:services:|\{?\s*"services"\s*:)`) })
	customary = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(docker-)?compose([.-].*)?\.(ya?ml|json)$`) })
)

// tell says which format a file is; "" for none.
func tell(path string, data []byte, named bool) string {
	if kind := byName(path); kind != "" {
		return kind
	}
	switch {
	case ours().Match(data): // a policy, a trust file
	case manifest().Match(data) && kindLine().Match(data):
		return Kubernetes
	case services().Match(data) && (named || customary().MatchString(strings.ToLower(filepath.Base(path)))):
		return Compose
	case named && !isYAML(path):
		return Dockerfile
	}
	return ""
}
