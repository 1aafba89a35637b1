package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// Question asks which images hold something.
type Question struct {
	Kind ThingKind // needed
	// Name is a vulnerability's id or alias, a package or source package, a
	// secret's rule or a malware's name, in any case. Secrets and malware have ""
	// for all of them.
	Name string
	// Ecosystem, with or without its release (Debian, Debian:12), and Versions
	// narrow a package, or the one that a vulnerability is in. Versions are bounds
	// that all hold: "<1.2.3", ">=1.0 <2", "1.2.3".
	Ecosystem, Versions string
	Running             bool // only images that run
	Limit               int  // at most MaxPage; 0 = 50
	Offset              int
}

// ErrQuestion is wrapped by the error of a question that cannot be answered as
// it is.
var ErrQuestion = errors.New("cannot be asked")

// Answer is where something is.
type Answer struct {
	Images     int    `json:"images"`     // all that hold it, not only those of Items
	Running    int    `json:"running"`    // images of them that run
	Containers int    `json:"containers"` // made of them
	Hosts      int    `json:"hosts"`      // on which those run
	Items      []Held `json:"items"`      // those that run first
	// Unplaced counts versions that have no place in their ecosystem's order:
	// whether they are within Versions is not known.
	Unplaced int `json:"unplaced,omitempty"`
	// Cut: there are more things by this name than are looked at.
	Cut bool `json:"cut,omitempty"`
}

// Held is one image and what it holds of what was asked for.
type Held struct {
	Digest   string      `json:"digest"`
	Name     string      `json:"name"`
	Platform string      `json:"platform,omitempty"`
	Refused  bool        `json:"refused"`
	Pipeline string      `json:"pipeline,omitempty"` // as Image.Pipeline: it holds these by a pipeline's word alone
	Running  []Placement `json:"containers"`
	Things   []Thing     `json:"things"`
	number   int64
}

// maxThings bounds what one question looks at: distinct packages, not images.
const maxThings = 20_000

// Where answers which images hold something, and where those run.
func (s *Store) Where(ctx context.Context, q Question) (Answer, error) {
	a := Answer{Items: []Held{}}
	bounds, err := parseBounds(q.Versions)
	if err != nil {
		return a, err
	}
	if q.Name == "" && (q.Kind == ThingPackage || q.Kind == ThingVulnerability) || q.Name != "" && len(q.Name) > maxName {
		return a, fmt.Errorf("%w: name the %s, in at most %d bytes", ErrQuestion, q.Kind, maxName)
	}
	things, err := s.things(ctx, q)
	if err != nil {
		return a, err
	}
	a.Cut = len(things) > maxThings
	ids := a.choose(q.Kind, things[:min(len(things), maxThings)], q.Ecosystem, bounds)
	if len(ids.ids) == 0 {
		return a, nil
	}
	if err := s.total(ctx, &a, ids); err != nil {
		return a, err
	}
	return a, s.holders(ctx, &a, q, ids)
}

// maxName bounds what is asked for, in bytes.
const maxName = 500

// numbered is a thing with its row.
type numbered struct {
	id int64
	Thing
}

func (s *Store) things(ctx context.Context, q Question) ([]numbered, error) {
	query, args := "SELECT t.id, t.body FROM names n JOIN things t ON t.id = n.thing WHERE n.kind = $1 AND n.name = $2", []any{q.Kind, strings.ToLower(q.Name)}
	if q.Name == "" {
		query, args = "SELECT id, body FROM things WHERE kind = $1", []any{q.Kind}
	}
	return list(ctx, s, "where is it", func(row scanner) (n numbered, err error) {
		var body []byte
		if err := row.Scan(&n.id, &body); err != nil {
			return n, err
		}
		return n, json.Unmarshal(body, &n.Thing)
	}, fmt.Sprintf("%s LIMIT %d", query, maxThings+1), args...)
}

// chosen are the things that are asked for.
type chosen struct {
	kind ThingKind
	ids  []int64
	byID map[int64]Thing
}

// held is a relation (thing, image) of the chosen things and who holds them. A
// vulnerability is held by who holds a package that it is in, and is not spared.
func (c chosen) held() string {
	if c.kind != ThingVulnerability {
		return "(SELECT thing, image FROM holds WHERE thing IN " + c.in() + ")"
	}
	return `(SELECT a.vulnerability AS thing, h.image AS image FROM affects a JOIN holds h ON h.thing = a.package
		WHERE a.vulnerability IN ` + c.in() + ` AND NOT EXISTS (SELECT 1 FROM spares s WHERE s.image = h.image AND s.package = a.package AND s.vulnerability = a.vulnerability))`
}

// heldBy is held of one image, begun from the image: it has few things beside
// what all images have.
func (c chosen) heldBy(image string) string {
	if c.kind != ThingVulnerability {
		return "SELECT h.thing FROM holds h WHERE h.image = " + image + " AND h.thing IN " + c.in()
	}
	return `SELECT DISTINCT a.vulnerability FROM holds h JOIN affects a ON a.package = h.thing WHERE h.image = ` + image + ` AND a.vulnerability IN ` + c.in() + `
		AND NOT EXISTS (SELECT 1 FROM spares s WHERE s.image = h.image AND s.package = a.package AND s.vulnerability = a.vulnerability)`
}

// in is the list for SQL's IN. The ids are numbers of this database's own.
func (c chosen) in() string {
	words := make([]string, len(c.ids))
	for i, id := range c.ids {
		words[i] = fmt.Sprint(id)
	}
	return "(" + strings.Join(words, ",") + ")"
}

func (a *Answer) choose(kind ThingKind, all []numbered, ecosystem string, bounds []bound) chosen {
	c := chosen{kind: kind, byID: map[int64]Thing{}}
	for _, t := range all {
		if t.Package != nil {
			if base, _, _ := strings.Cut(t.Package.Ecosystem, ":"); ecosystem != "" && !strings.EqualFold(ecosystem, base) && !strings.EqualFold(ecosystem, t.Package.Ecosystem) {
				continue
			}
			inside, err := within(t.Package.Ecosystem, t.Package.Version, bounds)
			if err != nil {
				a.Unplaced++
			}
			if !inside {
				continue
			}
		}
		c.ids, c.byID[t.id] = append(c.ids, t.id), t.Thing
	}
	return c
}

func (s *Store) total(ctx context.Context, a *Answer, c chosen) error {
	row := s.read.QueryRowContext(ctx, "SELECT COUNT(DISTINCT image) FROM "+c.held()+" x")
	if err := row.Scan(&a.Images); err != nil {
		return s.wrap("where is it", err)
	}
	// From the containers, for they are few beside what images hold.
	row = s.read.QueryRowContext(ctx, `SELECT COUNT(DISTINCT c.image), COUNT(*), COUNT(DISTINCT c.agent) FROM containers c JOIN image_numbers n ON n.digest = c.image
		WHERE EXISTS (`+c.heldBy("n.number")+`)`)
	return s.wrap("where is it", row.Scan(&a.Running, &a.Containers, &a.Hosts))
}

// holders fills in one page of images.
func (s *Store) holders(ctx context.Context, a *Answer, q Question, c chosen) error {
	only := ""
	if q.Running {
		only = " WHERE running > 0"
	}
	query := fmt.Sprintf(`SELECT number, digest, name, platform, refused, origin FROM (
		SELECT n.number AS number, i.digest AS digest, i.name AS name, i.platform AS platform, i.refused AS refused, i.origin AS origin,
			(SELECT COUNT(*) FROM containers c WHERE c.image = i.digest) AS running
		FROM (SELECT DISTINCT image FROM %s y) h JOIN image_numbers n ON n.number = h.image JOIN images i ON i.digest = n.digest) x%s
		ORDER BY running DESC, name, digest LIMIT %d OFFSET %d`, c.held(), only, limit(q.Limit), max(0, q.Offset))
	items, err := list(ctx, s, "where is it", func(row scanner) (h Held, err error) {
		err = row.Scan(&h.number, &h.Digest, &h.Name, &h.Platform, &h.Refused, &h.Pipeline)
		return h, err
	}, query)
	if err != nil {
		return err
	}
	for i := range items {
		h := &items[i]
		if h.Running, err = s.Running(ctx, h.Digest); err != nil {
			return err
		}
		if h.Things, err = s.holdsOf(ctx, h.number, c); err != nil {
			return err
		}
	}
	if items != nil {
		a.Items = items
	}
	return nil
}

// holdsOf are those of the chosen things that an image holds.
func (s *Store) holdsOf(ctx context.Context, image int64, c chosen) ([]Thing, error) {
	ids, err := list(ctx, s, "where is it", func(row scanner) (id int64, err error) {
		err = row.Scan(&id)
		return id, err
	}, c.heldBy("$1")+" ORDER BY 1", image)
	var out []Thing
	for _, id := range ids {
		out = append(out, c.byID[id])
	}
	return out, err
}

// bound is one bound of versions.
type bound struct{ op, version string }

// parseBounds reads bounds, which spaces or commas part.
func parseBounds(s string) ([]bound, error) {
	var out []bound
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }) {
		b := bound{"=", word}
		for _, op := range []string{"<=", ">=", "<", ">", "="} {
			if rest, ok := strings.CutPrefix(word, op); ok {
				b = bound{op, rest}
				break
			}
		}
		if b.version == "" || len(s) > maxName {
			return nil, fmt.Errorf("%w: versions %.80q: use bounds as <1.2.3 or >=1.0 <2", ErrQuestion, s)
		}
		out = append(out, b)
	}
	return out, nil
}

// within says whether a version keeps all bounds. An error: its order cannot
// tell, and the answer is no.
func within(ecosystem, version string, bounds []bound) (bool, error) {
	if len(bounds) == 0 {
		return true, nil
	}
	order, ok := vuln.OrderOf(ecosystem)
	if !ok {
		return false, fmt.Errorf("versions of %s have no known order", ecosystem)
	}
	for _, b := range bounds {
		sign, err := order(version, b.version)
		if err != nil {
			return false, err
		}
		if ok := map[string]bool{"<": sign < 0, "<=": sign <= 0, ">": sign > 0, ">=": sign >= 0, "=": sign == 0}[b.op]; !ok {
			return false, nil
		}
	}
	return true, nil
}
