package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// Detections knows what tells of incidents, and takes exceptions.
type Detections interface {
	Detections(ctx context.Context) ([]Detection, error)
	// Except makes an exception as tight as what an incident saw; its error speaks
	// of what was asked for.
	Except(ctx context.Context, incident uint64, byContainer bool, reason string, ends time.Time, by store.Actor) (store.Exception, error)
	Unexcept(ctx context.Context, id int64, reason string, by store.Actor) error
}

// Detection is a detection, or a control of policy, with what it told lately.
type Detection struct {
	ID          string            `json:"id"` // policy.CONTROL for a control of policy
	Title       string            `json:"title"`
	Description string            `json:"description,omitempty"`
	Severity    event.Severity    `json:"severity,omitempty"`
	Effect      event.Effect      `json:"effect,omitempty"` // by default
	AlwaysOn    bool              `json:"alwaysOn,omitempty"`
	Attack      []string          `json:"attack,omitempty"`
	When        string            `json:"when,omitempty"`
	Day         int               `json:"day"`   // incidents of the last 24 hours
	Month       int               `json:"month"` // of the last 30 days
	Last        time.Time         `json:"last,omitzero"`
	Excepted    uint64            `json:"excepted"` // acts that exceptions passed over
	Exceptions  []store.Exception `json:"exceptions,omitempty"`
}

// OfDetection selects the incidents that a Detection told.
func OfDetection(id string) store.IncidentFilter {
	if control, ok := strings.CutPrefix(id, "policy."); ok {
		return store.IncidentFilter{Control: event.Control(control)}
	}
	return store.IncidentFilter{Detection: id}
}

type detectionsPage struct {
	All        []Detection
	Exceptions int
}

func (c *Console) detections(v *visit) error {
	all, err := c.Options.Detections.Detections(v.ctx)
	if err != nil {
		return err
	}
	p := detectionsPage{All: all}
	for _, d := range all {
		p.Exceptions += len(d.Exceptions)
	}
	return v.show(http.StatusOK, "detections", "detections", "Detections", p)
}

type detectionPage struct {
	Detection
	Incidents []store.Story
	Now       time.Time
}

func (c *Console) detection(v *visit) error {
	all, err := c.Options.Detections.Detections(v.ctx)
	if err != nil {
		return err
	}
	id := v.r.PathValue("id")
	i := slices.IndexFunc(all, func(d Detection) bool { return d.ID == id })
	if i < 0 {
		return fmt.Errorf("detection %q: %w", id, store.ErrNotFound)
	}
	p := detectionPage{Detection: all[i], Now: c.Now()}
	f := OfDetection(id)
	f.Limit = 20
	if p.Incidents, err = c.Store.Stories(v.ctx, f); err != nil {
		return err
	}
	return v.show(http.StatusOK, "detection", "detections", p.Title, p)
}

func (c *Console) except(v *visit) error {
	id, err := strconv.ParseUint(v.r.PathValue("id"), 10, 63)
	if err != nil {
		return fmt.Errorf("incident %q: %w", v.r.PathValue("id"), store.ErrNotFound)
	}
	return v.changeAt(func(f url.Values) (string, error) {
		ends, err := LastDay(strings.TrimSpace(f.Get("until")))
		if err != nil {
			return "", err
		}
		x, err := c.Options.Detections.Except(v.ctx, id, f.Get("scope") == "container", f.Get("reason"), ends, v.actor())
		return "/detections/" + url.PathEscape(x.Detection) + "#exceptions", err
	})
}

func (c *Console) unexcept(v *visit) error {
	return v.changeAt(func(f url.Values) (string, error) {
		id, err := strconv.ParseInt(v.r.PathValue("id"), 10, 64)
		if err != nil {
			return "", fmt.Errorf("exception %q: %w", v.r.PathValue("id"), store.ErrNotFound)
		}
		return "/detections", c.Options.Detections.Unexcept(v.ctx, id, f.Get("reason"), v.actor())
	})
}

// exceptable says whether an exception can be made from an incident, and what it
// would not lift.
func exceptable(inc store.Incident) (can bool, keeps string) {
	if inc.Container == nil || inc.Event.Process == nil {
		return false, ""
	}
	d := inc.Decision
	if d.Outcome != event.Prevented && (d.Outcome != event.Killed || d.Mechanism == "agent") {
		return true, ""
	}
	if inc.AlwaysOn {
		return true, "it stays stopped: only a waiver for this detection in a policy lets it happen"
	}
	return true, "it stays stopped: only the policy that stops it can allow it, or an exception in that policy"
}
