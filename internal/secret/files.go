package secret

import (
	"bytes"
	"path"
	"strings"
)

// sniffed is how much of a file is looked at to tell text from anything else.
const sniffed = 8000

// notText says that a content is not text.
func notText(content []byte) bool {
	return bytes.IndexByte(content[:min(len(content), sniffed)], 0) >= 0
}

// Sizes of files that are looked at. A large file without an extension that
// people write text under is a program or a database.
const (
	minSize     = 12
	maxUnnamed  = 1 << 20
	maxExtended = 256 << 20
)

// Wants says whether a file may hold secrets in text: scan's Examiner.
func (f *Finder) Wants(name string, size int64, executable bool) bool {
	if size < minSize || size > maxExtended {
		return false
	}
	ext := extension(name)
	if isText(ext) {
		return !inLibrary(name)
	}
	return !isBinary(ext) && size <= maxUnnamed && !isProgram(name, executable, size) && !inLibrary(name)
}

// extension is what follows the last dot of the base name, without a copy.
func extension(name string) string {
	for i := len(name) - 1; i >= 0 && name[i] != '/'; i-- {
		if name[i] == '.' {
			return name[i+1:]
		}
	}
	return ""
}

// isText lists extensions of text that people put secrets into and that may be
// large; a file of another extension is looked at up to maxUnnamed.
func isText(ext string) bool {
	switch ext {
	case "env", "yaml", "yml", "json", "toml", "ini", "conf", "cfg", "config", "properties", "xml", "txt", "log",
		"sql", "dump", "csv", "tf", "tfvars", "tfstate", "pem", "key", "sh", "bash", "history", "ipynb", "har", "js", "ts",
		"py", "rb", "php", "go", "java", "cs", "ps1":
		return true
	}
	return false
}

// isBinary lists extensions of files that are never text.
func isBinary(ext string) bool {
	switch ext {
	case "so", "a", "o", "ko", "pyc", "pyo", "pyd", "class", "jar", "war", "ear", "dll", "exe", "wasm", "node", "beam",
		"png", "jpg", "jpeg", "gif", "ico", "webp", "bmp", "tif", "tiff", "avif", "heic", "mp3", "mp4", "ogg", "wav", "avi", "mov", "webm", "flac",
		"ttf", "otf", "woff", "woff2", "eot", "pfb", "afm",
		"gz", "tgz", "bz2", "xz", "zst", "lz4", "lzma", "zip", "7z", "rar", "tar", "deb", "rpm", "apk", "whl", "gem", "nupkg", "egg",
		"pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "mo", "gmo", "db", "dat", "bin", "img", "iso", "pack", "idx", "rdb",
		"css", "scss", "less", "svg", "h", "hpp", "po", "pot", "md5sums", "list", "triggers", "symbols", "shlibs", "gir", "typelib", "tzdata", "cache":
		return true
	}
	return false
}

// isProgram knows programs and libraries by their place: they are not text.
func isProgram(name string, executable bool, size int64) bool {
	return executable && size > 256<<10 || strings.Contains(path.Base(name), ".so.")
}
