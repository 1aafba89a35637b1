package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/web"
)

// The bounds of promotions: all of them go to every agent with its policies.
const (
	maxPromotions      = 1_000
	maxPromotionReason = 500
)

// badPromotion is one that cannot be right.
type badPromotion struct{ error }

func wrongPromotion(format string, args ...any) error {
	return badPromotion{fmt.Errorf(format, args...)}
}

// Promote implements web.Intelligence.
func (s *Server) Promote(ctx context.Context, p store.Promotion, by store.Actor) error {
	p.Reason = strings.TrimSpace(p.Reason)
	if p.Reason == "" || len(p.Reason) > maxPromotionReason {
		return wrongPromotion("give a reason, of at most %d bytes", maxPromotionReason)
	}
	if !p.Ends.IsZero() && !s.o.Now().Before(p.Ends) {
		return wrongPromotion("the end %s is over: leave it out, or give a day to come", p.Ends.Format(time.DateOnly))
	}
	if err := checkPromotion(&p.Promotion); err != nil {
		return err
	}
	if p.Kind == api.PromoteIndicator && p.Value == "" && p.Source != "" {
		if b, err := s.Brought(ctx, "", 0, 0); err != nil {
			return err
		} else if b.Sources[p.Source] == 0 {
			return wrongPromotion("no indicator is of the source %q: `breakwater intel status` lists the sources", p.Source)
		}
	}
	have, err := s.store.Promotions(ctx)
	if err != nil {
		return err
	}
	if len(have) >= maxPromotions {
		return wrongPromotion("%d are promoted already: promote a whole source instead, or demote some", len(have))
	}
	if err := s.store.Promote(ctx, p, by); err != nil {
		return err
	}
	s.policiesChanged(ctx)
	return nil
}

// promotable are ids of detections and names of feeds.
var promotable = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,127}$`) })

// checkPromotion also brings an address into its one form.
func checkPromotion(p *api.Promotion) error {
	if p.Source != "" && !promotable().MatchString(p.Source) {
		return wrongPromotion("%q cannot be the name of a source", p.Source)
	}
	switch p.Kind {
	case api.PromoteDetection:
		if p.Source != "" || p.Value != "" && !promotable().MatchString(p.Value) {
			return wrongPromotion("%q cannot be the id of a detection", p.Value+p.Source)
		}
	case api.PromoteIndicator:
		if p.Value == "" {
			return nil
		}
		prefix, err := netip.ParsePrefix(p.Value)
		if err != nil {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(p.Value); err != nil {
				return checkDomain(p)
			}
			addr = addr.Unmap().WithZone("")
			p.Value, prefix = addr.String(), netip.PrefixFrom(addr, addr.BitLen())
		} else {
			prefix = prefix.Masked()
			p.Value = prefix.String()
		}
		if prefix.Bits() == 0 || prefix.Addr().IsLoopback() || prefix.Addr().Is4In6() {
			return wrongPromotion("%s cannot be refused: it is everything, this host itself, or no form of an address that the kernel sees", p.Value)
		}
	default:
		return wrongPromotion("%q is neither indicator nor detection", p.Kind)
	}
	return nil
}

// checkDomain also brings a domain into its one form.
func checkDomain(p *api.Promotion) error {
	name := strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(strings.TrimSpace(p.Value)), "*."), ".")
	if !feed.IsDomain(name) {
		return wrongPromotion("%q is neither an address, nor a network, nor a domain of at least two labels", p.Value)
	}
	p.Value = name
	return nil
}

// Demote implements web.Intelligence.
func (s *Server) Demote(ctx context.Context, id int64, reason string, by store.Actor) error {
	if reason = strings.TrimSpace(reason); len(reason) > maxPromotionReason {
		return wrongPromotion("the reason has %d bytes: use at most %d", len(reason), maxPromotionReason)
	}
	if err := s.store.Demote(ctx, id, reason, by); err != nil {
		return err
	}
	s.policiesChanged(ctx)
	return nil
}

// Brought implements web.Intelligence.
func (s *Server) Brought(ctx context.Context, text string, offset, limit int) (b web.Brought, err error) {
	bundle := s.matcher.take()
	if bundle == nil {
		return b, nil
	}
	defer bundle.users.Done()
	m := bundle.Manifest()
	b.Version, b.Built, b.Sources = m.Version, m.Built, map[string]int{}
	for i, err := range bundle.Indicators(ctx) {
		if err != nil {
			return b, err
		}
		b.Sources[i.Source]++
		if text != "" && !strings.Contains(i.Value, text) && !strings.Contains(strings.ToLower(i.Name+" "+i.Source), strings.ToLower(text)) {
			continue
		}
		if b.Found++; b.Found > offset && len(b.Indicators) < limit {
			b.Indicators = append(b.Indicators, i)
		}
	}
	b.Detections, err = detectionsOf(ctx, bundle.Bundle)
	return b, err
}

func detectionsOf(ctx context.Context, b *intel.Bundle) (out []web.BroughtDetection, err error) {
	files, _, err := b.Detections(ctx)
	if err != nil || files == nil {
		return nil, err
	}
	rules, _ := detect.LoadRight(files) // agents name those that are wrong
	if rules == nil {
		return nil, nil
	}
	for _, r := range rules.All() {
		out = append(out, web.BroughtDetection{ID: r.ID, Title: r.Title, Description: r.Description, Severity: r.Severity, Effect: r.Effect})
	}
	return out, nil
}

// promotionBody asks for a promotion.
type promotionBody struct {
	Kind   string `json:"kind" enum:"indicator,detection"`
	Value  string `json:"value,omitempty" doc:"an address, a network, a domain or a detection's id; empty: every one of the source"`
	Source string `json:"source,omitempty" doc:"the feed of an indicator; empty: any"`
	Reason string `json:"reason"`
	Ends   string `json:"ends,omitempty" doc:"the last day, 2027-01-31; empty: it does not end"`
}

func (s *Server) apiPromotions(ctx context.Context, _ *struct{}) (*answer[rows[store.Promotion]], error) {
	return reply(s.store.Promotions(ctx))
}

func (s *Server) apiPromote(ctx context.Context, in *struct{ Body promotionBody }) (*answer[rows[store.Promotion]], error) {
	b := in.Body
	ends, err := web.LastDay(b.Ends)
	if err == nil {
		err = s.Promote(ctx, store.Promotion{Promotion: api.Promotion{Kind: b.Kind, Value: b.Value, Source: b.Source, Ends: ends}, Reason: b.Reason}, actorOf(ctx))
	} else {
		err = badPromotion{err}
	}
	var bad badPromotion
	if errors.As(err, &bad) {
		return nil, huma.Error400BadRequest(err.Error())
	}
	if err != nil {
		return nil, apiError(err)
	}
	return reply(s.store.Promotions(ctx))
}

func (s *Server) apiDemote(ctx context.Context, in *struct {
	ID     int64  `path:"id"`
	Reason string `query:"reason"`
}) (*struct{}, error) {
	err := s.Demote(ctx, in.ID, in.Reason, actorOf(ctx))
	var bad badPromotion
	if errors.As(err, &bad) {
		return nil, huma.Error400BadRequest(err.Error())
	}
	if err != nil {
		return nil, apiError(err)
	}
	return nil, nil
}

type broughtAnswer struct {
	Version    string            `json:"version,omitempty"`
	Built      time.Time         `json:"built,omitzero"`
	Sources    map[string]int    `json:"sources,omitempty" doc:"indicators of each"`
	Indicators []indicatorBody   `json:"indicators"`
	Detections []detectionBody   `json:"detections"`
	Promotions []store.Promotion `json:"promotions"`
}

type indicatorBody struct {
	Kind   string    `json:"kind"`
	Value  string    `json:"value"`
	Name   string    `json:"name,omitempty"`
	Source string    `json:"source"`
	Ends   time.Time `json:"ends,omitzero"`
}

type detectionBody struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	Effect string `json:"effect" doc:"what it does when it is promoted"`
}

func (s *Server) apiIntelligence(ctx context.Context, in *struct {
	Text   string `query:"text" doc:"a part of an indicator's value, name or source"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Offset int    `query:"offset" minimum:"0"`
}) (*answer[broughtAnswer], error) {
	b, err := s.Brought(ctx, in.Text, in.Offset, in.Limit)
	if err != nil {
		return nil, apiError(err)
	}
	out := broughtAnswer{Version: b.Version, Built: b.Built, Sources: b.Sources, Indicators: []indicatorBody{}, Detections: []detectionBody{}}
	for _, i := range b.Indicators {
		out.Indicators = append(out.Indicators, indicatorBody{string(i.Kind), i.Value, i.Name, i.Source, i.Ends})
	}
	for _, r := range b.Detections {
		out.Detections = append(out.Detections, detectionBody{r.ID, r.Title, string(r.Effect)})
	}
	out.Promotions, err = s.store.Promotions(ctx)
	return single(out, err)
}
