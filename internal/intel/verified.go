package intel

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/internal/durable"
)

// verified remembers that a database had the digest that its manifest states, so
// that opening it again need not read all of it. It lies beside the key that
// bundles must be signed with: who can write one can write the other. Any change
// of the file changes its inode or its ctime, which nobody can set.
type verified struct {
	SHA256 string `json:"sha256"`
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`
	Change int64  `json:"ctime"` // nanoseconds
}

// settled is how old a file's last change must be: two changes within one tick
// of a kernel's clock have one ctime.
const settled = 2 * time.Second

func verifiedPath(data string) string { return filepath.Join(data, "keys", "intel.verified") }

// identityOf is what is remembered of a file; ok is false when it cannot be
// told, or changed only just now.
func identityOf(path, digest string, now time.Time) (v verified, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return v, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return v, false
	}
	changed := time.Unix(st.Ctim.Sec, st.Ctim.Nsec)
	v = verified{digest, st.Dev, st.Ino, st.Size, changed.UnixNano()}
	return v, now.Sub(changed) > settled
}

// isVerified says whether the file is the one that had this digest.
func isVerified(data, path, digest string) bool {
	text, err := readSmall(verifiedPath(data))
	if err != nil {
		return false
	}
	var known verified
	if json.Unmarshal(text, &known) != nil {
		return false
	}
	now, ok := identityOf(path, digest, time.Now())
	return ok && now == known
}

// remembersVerified notes a database that was just verified. Who may not write
// there verifies again the next time.
func remembersVerified(data, path, digest string) {
	v, ok := identityOf(path, digest, time.Now())
	if !ok {
		return
	}
	if text, err := json.Marshal(v); err == nil {
		_ = durable.WriteFile(verifiedPath(data), text, 0o600) // as said above
	}
}
