package server

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/web"
)

// registryBody is a registry as the API shows and takes it. Credentials go in
// and never come out.
type registryBody struct {
	Name         string   `json:"name" readOnly:"true"`
	Address      string   `json:"address" doc:"HOST or HOST:PORT" maxLength:"255"`
	Repositories []string `json:"repositories" doc:"names, or patterns over its catalog: team/*, !team/old" maxItems:"1000"`
	Tags         []string `json:"tags,omitempty" doc:"patterns; none: all" maxItems:"1000"`
	MostTags     int      `json:"mostTags,omitempty" doc:"of one repository, the last by name; 0: 20"`
	Platform     string   `json:"platform,omitempty" doc:"os/arch; none: the server's"`
	Every        string   `json:"every,omitempty" doc:"how often it is listed: 30m, 6h; none: 6h"`
	Budget       int      `json:"budget,omitempty" doc:"images read within an hour; 0: 60"`
	Username     string   `json:"username,omitempty"`
	Password     string   `json:"password,omitempty" writeOnly:"true"`
	Token        string   `json:"token,omitempty" writeOnly:"true" doc:"sent as a bearer's, instead of user and password"`
	CA           string   `json:"ca,omitempty" doc:"certificates (PEM) to trust besides the system's"`
	// NotifyToken is shown once, when it is made.
	NotifyToken string              `json:"notifyToken,omitempty" readOnly:"true"`
	Listed      time.Time           `json:"listed,omitzero" readOnly:"true"`
	Due         time.Time           `json:"due,omitzero" readOnly:"true"`
	Error       string              `json:"error,omitempty" readOnly:"true"`
	Count       store.RegistryCount `json:"count" readOnly:"true" required:"false"`
}

func (s *Server) shown(ctx context.Context, r store.Registry) (registryBody, error) {
	count, err := s.store.CountTargets(ctx, r.Name)
	return registryBody{Name: r.Name, Address: r.Address, Repositories: r.Repositories, Tags: r.Tags, MostTags: r.MostTags, Platform: r.Platform, Every: r.Every.String(),
		Budget: r.Budget, Username: r.Username, CA: r.CA, Listed: r.Listed, Due: r.Due, Error: r.Error, Count: count}, err
}

func (s *Server) apiRegistries(ctx context.Context, _ *struct{}) (*answer[rows[registryBody]], error) {
	all, err := s.store.Registries(ctx)
	var items []registryBody
	for _, r := range all {
		body, countErr := s.shown(ctx, r)
		if err == nil {
			err = countErr
		}
		items = append(items, body)
	}
	return reply(items, err)
}

type registryName struct {
	Name string `path:"name"`
}

func (s *Server) apiRegistry(ctx context.Context, in *registryName) (*answer[registryBody], error) {
	r, err := s.store.Registry(ctx, in.Name)
	if err != nil {
		return nil, apiError(err)
	}
	return single(s.shown(ctx, r))
}

func (s *Server) apiTargets(ctx context.Context, in *struct {
	Name   string `path:"name"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Offset int    `query:"offset" minimum:"0"`
}) (*answer[rows[store.RegistryTarget]], error) {
	return reply(s.store.RegistryTargets(ctx, in.Name, in.Limit, in.Offset))
}

func (s *Server) apiPutRegistry(ctx context.Context, in *struct {
	Name string `path:"name"`
	Body registryBody
}) (*answer[registryBody], error) {
	b := in.Body
	r := store.Registry{Name: in.Name, Address: b.Address, Repositories: b.Repositories, Tags: b.Tags, MostTags: b.MostTags, Platform: b.Platform, Budget: b.Budget, Username: b.Username, CA: b.CA}
	if b.Every != "" {
		var err error
		if r.Every, err = time.ParseDuration(b.Every); err != nil {
			return nil, huma.Error400BadRequest("every " + b.Every + ": use a length of time as 6h")
		}
	}
	notify, err := s.PutRegistry(ctx, web.RegistryInput{Registry: r, Password: b.Password, Token: b.Token}, actorOf(ctx))
	if err != nil {
		return nil, apiError(err)
	}
	stored, err := s.store.Registry(ctx, in.Name)
	if err != nil {
		return nil, apiError(err)
	}
	out, err := s.shown(ctx, stored)
	out.NotifyToken = notify
	return single(out, err)
}

func (s *Server) apiDeleteRegistry(ctx context.Context, in *registryName) (*struct{}, error) {
	if err := s.DeleteRegistry(ctx, in.Name, actorOf(ctx)); err != nil {
		return nil, apiError(err)
	}
	return nil, nil
}

func (s *Server) apiCrawl(ctx context.Context, in *registryName) (*struct{}, error) {
	if err := s.CrawlRegistry(ctx, in.Name, actorOf(ctx)); err != nil {
		return nil, apiError(err)
	}
	return nil, nil
}
