package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/store"
)

// RegistryInput is a registry with credentials that are not shown again.
type RegistryInput struct {
	store.Registry
	Password, Token string // "" keeps what it has
}

// Registries changes what the server reads by itself.
type Registries interface {
	// PutRegistry checks and stores; notify is the token for notifications when
	// one was made. Its error speaks of the settings.
	PutRegistry(ctx context.Context, in RegistryInput, by store.Actor) (notify string, err error)
	DeleteRegistry(ctx context.Context, name string, by store.Actor) error
	// CrawlRegistry lists it now.
	CrawlRegistry(ctx context.Context, name string, by store.Actor) error
}

type registryRow struct {
	store.Registry
	Count store.RegistryCount
}

type registriesPage struct{ Rows []registryRow }

func (c *Console) registries(v *visit) error {
	all, err := c.Store.Registries(v.ctx)
	if err != nil {
		return err
	}
	var p registriesPage
	for _, r := range all {
		count, err := c.Store.CountTargets(v.ctx, r.Name)
		if err != nil {
			return err
		}
		p.Rows = append(p.Rows, registryRow{r, count})
	}
	return v.show(http.StatusOK, "registries", "registries", "Registries", p)
}

type registryPage struct {
	registryRow
	Targets        []store.RegistryTarget
	Offset         int
	Next, Previous string
	Notify         string // the token, shown once
	Problem        string
}

func (c *Console) registry(v *visit) error {
	return v.registry(http.StatusOK, v.r.PathValue("name"), registryPage{})
}

// registry shows one registry, with what p holds already.
func (v *visit) registry(status int, name string, p registryPage) error {
	offset, err := number(v.r.URL.Query(), "offset")
	if err != nil {
		return v.badRequest(err)
	}
	p.Offset = int(min(offset, 1_000_000))
	if p.Registry, err = v.c.Store.Registry(v.ctx, name); err != nil {
		return err
	}
	if p.Count, err = v.c.Store.CountTargets(v.ctx, name); err != nil {
		return err
	}
	if p.Targets, err = v.c.Store.RegistryTargets(v.ctx, name, 0, p.Offset); err != nil {
		return err
	}
	base := "/registries/" + url.PathEscape(name)
	if len(p.Targets) == 50 {
		p.Next = base + query("offset", p.Offset+50)
	}
	if p.Offset > 0 {
		p.Previous = base + query("offset", max(0, p.Offset-50))
	}
	return v.show(status, "registry", "registries", name, p)
}

func (c *Console) registryPut(v *visit) error {
	if !v.who.MayWrite() {
		return errForbidden
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	if err := v.r.ParseForm(); err != nil {
		return v.badRequest(fmt.Errorf("the form could not be read (at most %s): %w", size(maxForm), err))
	}
	in, err := registryForm(v.r.PostForm)
	if err != nil {
		return v.badRequest(err)
	}
	notify, err := c.Registries.PutRegistry(v.ctx, in, v.actor())
	if err != nil {
		return v.badRequest(err)
	}
	return v.registry(http.StatusOK, in.Name, registryPage{Notify: notify})
}

func registryForm(f url.Values) (in RegistryInput, err error) {
	field := func(name string) string { return strings.TrimSpace(f.Get(name)) }
	in.Name, in.Address, in.Username, in.CA, in.Platform = field("name"), field("address"), field("username"), strings.ReplaceAll(field("ca"), "\r\n", "\n"), field("platform")
	in.Repositories, in.Tags = strings.Fields(f.Get("repositories")), strings.Fields(f.Get("tags"))
	in.Password = f.Get("password")
	for name, to := range map[string]*int{"budget": &in.Budget, "mostTags": &in.MostTags} {
		if *to, err = strconv.Atoi(orZero(field(name))); err != nil {
			return in, fmt.Errorf("%s %q: use a number", name, f.Get(name))
		}
	}
	if every := field("every"); every != "" {
		if in.Every, err = time.ParseDuration(every); err != nil {
			return in, fmt.Errorf("every %q: use a length of time as 6h or 30m", every)
		}
	}
	return in, nil
}

func (c *Console) registryCrawl(v *visit) error {
	if !v.who.MayWrite() {
		return errForbidden
	}
	name := v.r.PathValue("name")
	if err := c.Registries.CrawlRegistry(v.ctx, name, v.actor()); err != nil {
		return err
	}
	http.Redirect(v.w, v.r, "/registries/"+url.PathEscape(name), http.StatusSeeOther)
	return nil
}

func (c *Console) registryDelete(v *visit) error {
	if !v.who.MayWrite() {
		return errForbidden
	}
	if err := c.Registries.DeleteRegistry(v.ctx, v.r.PathValue("name"), v.actor()); err != nil {
		return err
	}
	http.Redirect(v.w, v.r, "/registries", http.StatusSeeOther)
	return nil
}
