package server

import (
	"context"

	"github.com/breakwater-sec/breakwater/internal/store"
)

// apiStories lists stories that have an incident which passes the filter; "before"
// is of the newest such incident.
func (s *Server) apiStories(ctx context.Context, in *incidentQuery) (*answer[rows[store.Story]], error) {
	f, err := s.incidentFilter(in)
	if err != nil {
		return nil, err
	}
	return reply(s.store.Stories(ctx, f))
}

// storyAnswer is a story with its incidents, the oldest first.
type storyAnswer struct {
	store.Story
	Incidents []store.Incident `json:"incidents"`
}

func (s *Server) apiStory(ctx context.Context, in *struct {
	ID uint64 `path:"id" doc:"of any incident of the story"`
}) (*answer[storyAnswer], error) {
	whole, steps, err := s.store.Story(ctx, in.ID)
	return single(storyAnswer{whole, steps}, err)
}
