package web

import (
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// storyPart is the story that an incident's page tells of; nil when the incident
// belongs to none with others.
type storyPart struct {
	store.Story
	Rows  []stepRow
	First bool // the page is of its first incident
	Step  int  // of the page's incident
}

// stepRow is one incident of a story.
type stepRow struct {
	store.Incident
	Number int
	This   bool
	Wanted event.Effect // where another one was carried out
}

func (c *Console) story(v *visit, id uint64) (*storyPart, error) {
	whole, steps, err := c.Store.Story(v.ctx, id)
	if err != nil || len(steps) < 2 && whole.Counted == 0 {
		return nil, err
	}
	p := &storyPart{Story: whole, First: whole.ID == id}
	for n, s := range steps {
		row := stepRow{Incident: s, Number: n + 1, This: s.ID == id, Wanted: wanted(s.Decision)}
		if row.This {
			p.Step = row.Number
		}
		p.Rows = append(p.Rows, row)
	}
	return p, nil
}
