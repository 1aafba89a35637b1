package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/web"
)

// The bounds of exceptions: all of them go to every agent with its policies.
const (
	maxExceptions      = 1_000
	maxExceptionReason = 500
	maxExceptionLife   = 366 * 24 * time.Hour
)

// badException is one that cannot be right.
type badException struct{ error }

func wrongException(format string, args ...any) error {
	return badException{fmt.Errorf(format, args...)}
}

// Except implements web.Detections.
func (s *Server) Except(ctx context.Context, incident uint64, byContainer bool, reason string, ends time.Time, by store.Actor) (x store.Exception, err error) {
	reason = strings.TrimSpace(reason)
	switch now := s.o.Now(); {
	case reason == "" || len(reason) > maxExceptionReason:
		return x, wrongException("give a reason, of at most %d bytes", maxExceptionReason)
	case ends.IsZero():
		return x, wrongException("give a last day, as 2027-01-31: an exception ends")
	case !now.Before(ends):
		return x, wrongException("the last day %s is over: give one to come", ends.AddDate(0, 0, -1).Format(time.DateOnly))
	case ends.After(now.Add(maxExceptionLife)):
		return x, wrongException("the last day %s is more than a year away: look at it again before", ends.AddDate(0, 0, -1).Format(time.DateOnly))
	}
	inc, err := s.store.Incident(ctx, incident)
	if err != nil {
		return x, err
	}
	x = store.Exception{Incident: incident, Reason: reason, Author: by.Name, Created: s.o.Now().UTC()}
	if x.Exception, err = detect.Except(inc.Incident, byContainer); err != nil {
		return x, badException{err}
	}
	have, err := s.store.Exceptions(ctx)
	if err != nil {
		return x, err
	}
	if len(have) >= maxExceptions {
		return x, wrongException("there are %d exceptions already: take some back", len(have))
	}
	x.Ends = ends
	if x.ID, err = s.store.Except(ctx, x, by); err == nil {
		s.policiesChanged(ctx)
	}
	return x, err
}

// Unexcept implements web.Detections.
func (s *Server) Unexcept(ctx context.Context, id int64, reason string, by store.Actor) error {
	if reason = strings.TrimSpace(reason); len(reason) > maxExceptionReason {
		return wrongException("the reason has %d bytes: use at most %d", len(reason), maxExceptionReason)
	}
	err := s.store.Unexcept(ctx, id, reason, by)
	if err == nil {
		s.policiesChanged(ctx)
	}
	return err
}

// Detections implements web.Detections.
func (s *Server) Detections(ctx context.Context) ([]web.Detection, error) {
	now := s.o.Now()
	day, err := s.store.CountRules(ctx, now.Add(-24*time.Hour))
	if err != nil {
		return nil, err
	}
	month, err := s.store.CountRules(ctx, now.AddDate(0, 0, -30))
	if err != nil {
		return nil, err
	}
	exceptions, err := s.store.Exceptions(ctx)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(s.builtin)
	at := map[string]int{}
	for i, d := range all {
		at[d.ID] = i
	}
	find := func(id string) *web.Detection {
		i, ok := at[id]
		if !ok { // brought by intelligence, or a control of policy
			i, at[id] = len(all), len(all)
			all = append(all, web.Detection{ID: id, Title: otherTitle(id)})
		}
		return &all[i]
	}
	name := func(c store.RuleCount) string { return cmp.Or(c.Detection, "policy."+string(c.Control)) }
	for _, c := range month {
		d := find(name(c))
		d.Month += c.Count
		if c.Last.After(d.Last) {
			d.Last = c.Last
		}
	}
	for _, c := range day {
		find(name(c)).Day += c.Count
	}
	for _, x := range exceptions {
		d := find(x.Detection)
		d.Excepted += x.Count
		d.Exceptions = append(d.Exceptions, x)
	}
	slices.SortStableFunc(all, func(a, b web.Detection) int {
		return cmp.Or(cmp.Compare(b.Day, a.Day), cmp.Compare(b.Month, a.Month), cmp.Compare(b.Excepted, a.Excepted),
			cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// otherTitle is of what no file of a detection tells: controls of policies, and what
// agents find by themselves.
func otherTitle(id string) string {
	if control, ok := strings.CutPrefix(id, "policy."); ok {
		return "Decisions of policies about " + control
	}
	switch id {
	case "network-indicator":
		return "Contact with a known malicious peer or name"
	case "resource-leap":
		return "A container that used far more than ever"
	case "host-pressure":
		return "A container that presses on its host"
	}
	return "Of another version, or brought by intelligence"
}

// listDetections is what the server says of each built-in one.
func listDetections(rules *detect.Rules) (all []web.Detection) {
	for _, r := range rules.All() {
		all = append(all, web.Detection{ID: r.ID, Title: r.Title, Description: r.Description, Severity: r.Severity, Effect: r.Effect,
			AlwaysOn: r.AlwaysOn, Attack: r.Attack, When: r.When()})
	}
	return all
}

// exceptionBody asks for an exception.
type exceptionBody struct {
	Reason string `json:"reason"`
	Until  string `json:"until" doc:"the last day, as 2027-01-31; at most a year away"`
	Scope  string `json:"scope,omitempty" enum:"image,container" doc:"held to the image's repository (default) or to the container's name"`
}

func (s *Server) apiExcept(ctx context.Context, in *struct {
	ID   uint64 `path:"id" doc:"of an incident"`
	Body exceptionBody
}) (*answer[store.Exception], error) {
	ends, err := web.LastDay(in.Body.Until)
	if err != nil {
		return nil, huma.Error400BadRequest(err.Error())
	}
	x, err := s.Except(ctx, in.ID, in.Body.Scope == "container", in.Body.Reason, ends, actorOf(ctx))
	return single(x, err)
}

func (s *Server) apiExceptions(ctx context.Context, _ *struct{}) (*answer[rows[store.Exception]], error) {
	return reply(s.store.Exceptions(ctx))
}

func (s *Server) apiUnexcept(ctx context.Context, in *struct {
	ID     int64  `path:"id"`
	Reason string `query:"reason"`
}) (*struct{}, error) {
	if err := s.Unexcept(ctx, in.ID, in.Reason, actorOf(ctx)); err != nil {
		return nil, apiError(err)
	}
	return nil, nil
}

func (s *Server) apiDetections(ctx context.Context, _ *struct{}) (*answer[rows[web.Detection]], error) {
	return reply(s.Detections(ctx))
}

// detectionAnswer is a detection with its newest incidents.
type detectionAnswer struct {
	web.Detection
	Incidents []store.Incident `json:"incidents"`
}

func (s *Server) apiDetection(ctx context.Context, in *struct {
	ID string `path:"id" doc:"a detection's id, or policy.CONTROL"`
}) (*answer[detectionAnswer], error) {
	all, err := s.Detections(ctx)
	if err != nil {
		return nil, apiError(err)
	}
	i := slices.IndexFunc(all, func(d web.Detection) bool { return d.ID == in.ID })
	if i < 0 {
		return nil, huma.Error404NotFound(fmt.Sprintf("no detection %q is known", in.ID))
	}
	incidents, err := s.store.Incidents(ctx, web.OfDetection(in.ID))
	if incidents == nil {
		incidents = []store.Incident{}
	}
	return single(detectionAnswer{all[i], incidents}, err)
}
