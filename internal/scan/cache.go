package scan

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/internal/inventory"
)

// Cache keeps what was found in layers, so that a layer is read once and not
// once for each image on top of it, and what was found in configurations. Safe for concurrent use, also by several
// processes. It holds nothing that cannot be read again: whatever is damaged,
// old or too much is left out.
//
// A layer is put in under a digest that this process knows it by: the diff id that
// an engine's own storage gives it, or the digest that was computed here, outside
// of the confined reader, of its bytes as they lie in an archive or registry (which
// is the diff id when they are not compressed). What is kept is believed for every
// image that names that digest: every engine compares it when it unpacks the layer.
type Cache struct {
	dir   string
	limit int64
	key   inventory.Key
	build string

	mu      sync.Mutex
	size    int64
	counted bool
}

// DefaultCache is how many bytes a cache may take: some 1,000 layers.
const DefaultCache = 512 << 20

const (
	cacheMagic = "BWLAYER2"
	newEntry   = ".new-" // how names of files begin that are being written
	maxEntry   = 128 << 20
)

// OpenCache opens or makes the cache in a folder, which must belong to the
// caller alone.
func OpenCache(dir string, limit int64) (*Cache, error) {
	if limit <= 0 {
		limit = DefaultCache
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0) {
		return nil, fmt.Errorf("cache %s: others may write there (owner %d, mode %v); use a folder of your own, or --no-cache", dir, st.Uid, info.Mode().Perm())
	}
	c := &Cache{dir: dir, limit: limit, build: buildID()}
	if c.key, err = cacheKey(filepath.Join(dir, "key")); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	return c, nil
}

// cacheKey reads the key of the path hashes, or makes one. Of two processes
// that make it at the same time, one wins.
func cacheKey(path string) (key inventory.Key, err error) {
	for range 2 {
		data, err := os.ReadFile(path)
		if err == nil && len(data) == len(key) {
			copy(key[:], data)
			return key, nil
		}
		if err == nil {
			_ = os.Remove(path) // damaged
		} else if !errors.Is(err, fs.ErrNotExist) {
			return key, err
		}
		rand.Read(key[:])
		tmp, err := writeTemp(filepath.Dir(path), key[:])
		if err != nil {
			return key, err
		}
		err = os.Link(tmp, path)
		_ = os.Remove(tmp)
		if err == nil {
			return key, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return key, err
		}
	}
	return key, fmt.Errorf("%s cannot be written", path)
}

func randomKey() (key inventory.Key) {
	rand.Read(key[:])
	return key
}

// buildID is the linker's own name for this program: another one for any
// change of its code. What another build found is not believed.
func buildID() string {
	f, err := elf.Open("/proc/self/exe")
	if err == nil {
		defer func() { _ = f.Close() }()
		if s := f.Section(".note.go.buildid"); s != nil {
			if data, err := s.Data(); err == nil {
				return string(data)
			}
		}
	}
	var random [16]byte
	rand.Read(random[:]) // nothing is found again, which is right
	return string(random[:])
}

// name is the file of an entry: it holds all that the content depends on.
func (c *Cache) name(of, ending string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %x %q", c.build, c.key, of))
	return filepath.Join(c.dir, hex.EncodeToString(sum[:20])+ending)
}

func (c *Cache) layer(diffID string, look Look) string {
	of := diffID
	for _, k := range look.wanted() {
		of += fmt.Sprintf(" %q %q", k.name, k.version(look))
	}
	return c.name(of, ".layer")
}

// get gives a layer's result, or nil.
func (c *Cache) get(diffID string, look Look) *layerResult {
	var r layerResult
	if !c.read(c.layer(diffID, look), &r, &r.inventory) {
		return nil
	}
	return &r
}

// read reads an entry; false when there is none that can be used.
func (c *Cache) read(path string, v any, rest *[]byte) bool {
	data, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	if *rest, err = decodeEntry(data, v); err != nil {
		_ = os.Remove(path)
		return false
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // what was used last is removed last
	return true
}

// put keeps a layer's result. What cannot be kept is not: the next scan reads
// the layer again.
func (c *Cache) put(diffID string, look Look, r *layerResult) error {
	return c.write(c.layer(diffID, look), r, r.inventory)
}

func (c *Cache) write(path string, v any, rest []byte) error {
	data, err := encodeEntry(v, rest)
	if err != nil || int64(len(data)) > min(maxEntry, c.limit/4) {
		return err
	}
	tmp, err := writeTemp(c.dir, data)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("cache: %w", err)
	}
	return c.grown(int64(len(data)))
}

// An entry is the magic, the SHA-256 of what follows, the length of the JSON (32
// bits, little endian), the JSON, and a layer's inventory.
func encodeEntry(v any, rest []byte) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	body := binary.LittleEndian.AppendUint32(nil, uint32(len(text)))
	body = append(append(body, text...), rest...)
	sum := sha256.Sum256(body)
	return append(append([]byte(cacheMagic), sum[:]...), body...), nil
}

var errEntry = errors.New("a cache entry is damaged")

func decodeEntry(data []byte, v any) (rest []byte, err error) {
	const head = len(cacheMagic) + sha256.Size
	if len(data) < head+4 || string(data[:len(cacheMagic)]) != cacheMagic {
		return nil, errEntry
	}
	body := data[head:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], data[len(cacheMagic):head]) {
		return nil, errEntry
	}
	n := int64(binary.LittleEndian.Uint32(body))
	if n > int64(len(body)-4) {
		return nil, errEntry
	}
	if err := json.Unmarshal(body[4:4+n], v); err != nil {
		return nil, errEntry
	}
	return body[4+n:], nil
}

func writeTemp(dir string, data []byte) (string, error) {
	f, err := os.CreateTemp(dir, newEntry+"*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// grown keeps the account and removes what was not used for longest.
func (c *Cache) grown(n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size += n
	if c.counted && c.size <= c.limit {
		return nil
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	var infos []fs.FileInfo
	c.size, c.counted = 0, true
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil || e.Name() == "key":
		case strings.HasPrefix(e.Name(), newEntry) && time.Since(info.ModTime()) > time.Hour:
			_ = os.Remove(filepath.Join(c.dir, e.Name())) // left by a process that was killed
		default:
			c.size += info.Size()
			infos = append(infos, info)
		}
	}
	if c.size <= c.limit {
		return nil
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range infos {
		if c.size <= c.limit/10*9 {
			break
		}
		if os.Remove(filepath.Join(c.dir, info.Name())) == nil {
			c.size -= info.Size()
		}
	}
	return nil
}
