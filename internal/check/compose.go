package check

import (
	"time"

	"github.com/breakwater-sec/breakwater/internal/check/compose"
	"github.com/breakwater-sec/breakwater/internal/document"
)

// Compose judges a Compose file.
func (cs *Checks) Compose(path string, data []byte, now time.Time) (Result, error) {
	docs, err := document.ParseForeign(path, data)
	res, err := cs.documents(path, data, now, docs, err, func() (list []subject) {
		for _, doc := range docs {
			list = append(list, composeSubjects(compose.Read(doc))...)
		}
		return list
	})
	for _, doc := range docs {
		for _, s := range compose.Read(doc).Services {
			if s.Extends {
				res.Gaps = append(res.Gaps, path+": service "+s.Name+" extends another one, which is not followed: check what `docker compose config` writes")
			}
		}
		if compose.Read(doc).Includes {
			res.Gaps = append(res.Gaps, path+": files that it includes are not followed: check what `docker compose config` writes")
		}
	}
	return res, err
}

func composeSubjects(p *compose.Project) []subject {
	list := []subject{{on: onProject, line: p.Node.Line, lineOf: p.Node.LineOf, variables: map[string]any{"project": p}}}
	for _, s := range p.Services {
		line := p.Node.LineOf("services", s.Name)
		list = append(list, subject{
			on: onService, resource: "service " + s.Name, line: line, enclosing: []int{p.Node.Line},
			lineOf: func(field ...string) int {
				if s.Node.Field(field[:1]...) == nil {
					return line
				}
				return s.Node.LineOf(field...)
			},
			variables: map[string]any{"project": p, "service": s},
		})
	}
	return list
}

// sampleProject is a sample as a whole file: it may be a service alone.
func sampleProject(n *document.Node) *document.Node {
	if s := n.Field("service"); s != nil {
		return mapNode("services", mapNode("app", s))
	}
	return n
}
