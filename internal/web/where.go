package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/store"
)

// wherePage answers where a vulnerability, package, secret or malware is.
type wherePage struct {
	Filter         url.Values
	Asked          bool
	Question       store.Question
	Answer         store.Answer
	Problem        string
	Next, Previous string
}

// vulnerabilityPrefixes begin the ids that publishers give.
var vulnerabilityPrefixes = [...]string{"CVE-", "GHSA-", "GO-", "RUSTSEC-", "PYSEC-", "DSA-", "DLA-", "USN-", "RHSA-", "ALAS", "ELSA-", "ALPINE-", "OSV-", "MAL-"}

// vulnerabilityID says that a word looks like the id of a vulnerability.
func vulnerabilityID(word string) bool {
	word = strings.ToUpper(word)
	for _, p := range vulnerabilityPrefixes {
		if strings.HasPrefix(word, p) && strings.ContainsAny(word, "0123456789") && !strings.ContainsAny(word, " /") {
			return true
		}
	}
	return false
}

func (c *Console) where(v *visit) error {
	q := v.r.URL.Query()
	offset, err := number(q, "offset")
	if err != nil {
		return v.badRequest(err)
	}
	p := wherePage{Filter: q, Question: store.Question{Kind: store.ThingKind(q.Get("kind")), Name: strings.TrimSpace(q.Get("name")), Ecosystem: strings.TrimSpace(q.Get("ecosystem")),
		Versions: q.Get("versions"), Running: q.Get("running") != "", Offset: int(min(offset, 1_000_000))}}
	switch p.Question.Kind {
	case store.ThingPackage, store.ThingVulnerability:
		p.Asked = p.Question.Name != ""
	case store.ThingSecret, store.ThingMalware:
		p.Asked = true
	case "":
		if p.Asked = p.Question.Name != ""; p.Asked {
			p.Question.Kind = store.ThingPackage
			if vulnerabilityID(p.Question.Name) {
				p.Question.Kind = store.ThingVulnerability
			}
		}
	default:
		return v.badRequest(fmt.Errorf("kind %q: use vulnerability, package, secret or malware", q.Get("kind")))
	}
	status := http.StatusOK
	if p.Asked {
		p.Answer, err = c.Store.Where(v.ctx, p.Question)
		switch {
		case errors.Is(err, store.ErrQuestion):
			p.Problem, status = sentence(err.Error()), http.StatusBadRequest
		case err != nil:
			return err
		}
	}
	if len(p.Answer.Items) == 50 {
		p.Next = p.page(p.Question.Offset + 50)
	}
	if p.Question.Offset > 0 {
		p.Previous = p.page(max(0, p.Question.Offset-50))
	}
	return v.show(status, "where", "where", "Where is…", p)
}

// page links to the answer from an offset on.
func (p wherePage) page(offset int) string {
	q := clone(p.Filter)
	q.Del("offset")
	if offset > 0 {
		q.Set("offset", fmt.Sprint(offset))
	}
	return "/where?" + q.Encode()
}
