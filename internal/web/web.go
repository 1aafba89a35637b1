// Package web is the console: server-rendered pages over what the store knows.
// Every page can be read without JavaScript; one small module adds the live
// counter of new incidents, the search key and the copy buttons.
//
// Nothing on a page is trusted. Templates escape by context (html/template),
// control and bidirectional characters are made visible in the finished page
// (see visible), and the Content-Security-Policy allows this server's own
// files only, no inline script or style.
package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// SecurityPolicy is the Content-Security-Policy of every page.
const SecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// Problem is one thing wrong with a policy's source.
type Problem struct {
	Line, Column int // from 1; 0 when it is about the whole
	Message      string
}

// Policies checks and changes policies.
type Policies interface {
	// Check returns the name in the source and everything wrong with it.
	Check(source string) (name string, problems []Problem)
	// Put validates and stores the next version, as store.PutPolicy does, and
	// sends it to the agents.
	Put(ctx context.Context, source string, base int, by store.Actor) (store.Policy, error)
	// Delete takes a policy out of force; its versions stay.
	Delete(ctx context.Context, name string, by store.Actor) (store.Policy, error)
}

// Images gives an image's report as it is to be shown today.
type Images interface {
	Image(ctx context.Context, digest string) (store.Image, report.Report, error)
}

// Options of New. All fields are needed but Now and Intelligence.
type Options struct {
	Store      *store.Store
	Auth       *auth.Auth
	Policies   Policies
	Registries Registries
	Images     Images
	// Intelligence may be nil: then there is no page of it.
	Intelligence Intelligence
	Statements   Statements // needed with Intelligence
	Detections   Detections // nil leaves their pages out
	// Request is the id of a request, for problem pages and the audit log.
	Request func(*http.Request) string
	Log     *slog.Logger
	Version string
	Now     func() time.Time // nil means time.Now
}

// Console serves the pages. It is safe for concurrent use.
type Console struct {
	Options
	pages map[string]*template.Template
	mux   *http.ServeMux
}

// New prepares the pages.
func New(o Options) (*Console, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Console{Options: o, mux: http.NewServeMux()}
	var err error
	if c.pages, err = parse(c.functions()); err != nil {
		return nil, err
	}
	return c, c.routes()
}

func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.mux.ServeHTTP(w, r) }

// parse makes one template set per page: the layout with the page's blocks.
func parse(functions template.FuncMap) (map[string]*template.Template, error) {
	layout, err := template.New("layout.html").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	names, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	for _, name := range names {
		base := strings.TrimPrefix(name, "templates/")
		if base == "layout.html" || base == "parts.html" {
			continue
		}
		page, err := layout.Clone()
		if err == nil {
			page, err = page.ParseFS(templateFiles, name)
		}
		if err != nil {
			return nil, fmt.Errorf("template %s: %w", base, err)
		}
		pages[strings.TrimSuffix(base, ".html")] = page
	}
	return pages, nil
}

// routes is the list of all pages.
func (c *Console) routes() error {
	static, err := fs.Sub(staticFiles, "static")
	if err != nil {
		return err
	}
	c.mux.Handle("GET /static/", http.StripPrefix("/static/", cached(http.FileServerFS(static))))
	c.mux.HandleFunc("GET /login", c.loginForm)
	c.mux.HandleFunc("POST /login", c.login)
	c.mux.HandleFunc("POST /logout", c.logout)
	c.mux.HandleFunc("POST /theme", c.theme)
	c.mux.HandleFunc("GET /{$}", c.page(c.overview))
	c.mux.HandleFunc("GET /incidents", c.page(c.incidents))
	c.mux.HandleFunc("GET /incidents/{id}", c.page(c.incident))
	c.mux.HandleFunc("GET /images", c.page(c.images))
	c.mux.HandleFunc("GET /images/{digest}", c.page(c.image))
	c.mux.HandleFunc("GET /images/{digest}/reports/{format}", c.page(c.imageDownload))
	c.mux.HandleFunc("GET /where", c.page(c.where))
	c.mux.HandleFunc("GET /policies", c.page(c.policies))
	c.mux.HandleFunc("GET /policies/{name}", c.page(c.policy))
	c.mux.HandleFunc("GET /policies/{name}/edit", c.page(c.policyEdit))
	c.mux.HandleFunc("GET /new-policy", c.page(c.policyNew))
	c.mux.HandleFunc("POST /policies", c.page(c.policyPut))
	c.mux.HandleFunc("POST /policies/{name}/delete", c.page(c.policyDelete))
	c.mux.HandleFunc("GET /registries", c.page(c.registries))
	c.mux.HandleFunc("POST /registries", c.page(c.registryPut))
	c.mux.HandleFunc("GET /registries/{name}", c.page(c.registry))
	c.mux.HandleFunc("POST /registries/{name}/crawl", c.page(c.registryCrawl))
	c.mux.HandleFunc("POST /registries/{name}/delete", c.page(c.registryDelete))
	if c.Intelligence != nil {
		c.mux.HandleFunc("GET /intelligence", c.page(c.intelligence))
		c.mux.HandleFunc("POST /intelligence/promotions", c.page(c.promote))
		c.mux.HandleFunc("POST /intelligence/promotions/{id}/demote", c.page(c.demote))
		c.mux.HandleFunc("POST /intelligence/vex", c.page(c.addVEX))
		c.mux.HandleFunc("POST /intelligence/vex/{name}/remove", c.page(c.removeVEX))
	}
	if c.Options.Detections != nil {
		c.mux.HandleFunc("GET /detections", c.page(c.detections))
		c.mux.HandleFunc("GET /detections/{id}", c.page(c.detection))
		c.mux.HandleFunc("POST /incidents/{id}/exceptions", c.page(c.except))
		c.mux.HandleFunc("POST /exceptions/{id}/remove", c.page(c.unexcept))
	}
	c.mux.HandleFunc("GET /hosts", c.page(c.hosts))
	c.mux.HandleFunc("GET /hosts/{agent}", c.page(c.host))
	c.mux.HandleFunc("GET /audit", c.page(c.audit))
	c.mux.HandleFunc("GET /search", c.page(c.search))
	c.mux.HandleFunc("/", c.page(func(*visit) error { return errNoPage }))
	return nil
}

// cached lets browsers keep a static file until the program is replaced.
func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		next.ServeHTTP(w, r)
	})
}

// visit is one request for a page by somebody who is known.
type visit struct {
	w   http.ResponseWriter
	r   *http.Request
	ctx context.Context // the request's
	who auth.Identity
	c   *Console
}

func (v *visit) actor() store.Actor {
	return store.Actor{Name: v.who.Name, Address: auth.Address(v.r), Request: v.c.Request(v.r)}
}

// frame is what the layout shows around a page.
type frame struct {
	Title, Section, Theme, Path string
	Who                         auth.Identity
	Version                     string
	Page                        any
}

var errNoPage = fmt.Errorf("there is no such page: %w", store.ErrNotFound)

// page guards a handler by the login and turns its error into a problem page.
func (c *Console) page(handle func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := c.Auth.Identify(r)
		if errors.Is(err, auth.ErrAnonymous) {
			c.toLogin(w, r)
			return
		}
		v := &visit{w: w, r: r, ctx: r.Context(), who: who, c: c}
		if err == nil && !who.MayRead() {
			err = errForbidden
		}
		if err == nil {
			err = handle(v)
		}
		if err != nil {
			v.problem(err)
		}
	}
}

func (c *Console) toLogin(w http.ResponseWriter, r *http.Request) {
	target := "/login"
	if r.Method == http.MethodGet && r.URL.Path != "/" {
		target += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// show renders a page with a status.
func (v *visit) show(status int, page, section, title string, model any) error {
	return v.c.render(v.w, status, page, frame{
		Title: title, Section: section, Theme: theme(v.r), Path: v.r.URL.RequestURI(), Who: v.who, Version: v.c.Version, Page: model,
	})
}

// render writes a page only when all of it was rendered.
func (c *Console) render(w http.ResponseWriter, status int, page string, f frame) error {
	var b bytes.Buffer
	if err := c.pages[page].ExecuteTemplate(&b, "layout.html", f); err != nil {
		return fmt.Errorf("page %s: %w", page, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", SecurityPolicy)
	w.WriteHeader(status)
	_, _ = w.Write(visible(b.Bytes())) // a reader that went away is no error
	return nil
}

// problemPage is what a reader sees when a page cannot be shown.
type problemPage struct {
	Status         int
	What, Request  string
	Hint, HintLink string
}

// problem shows what went wrong and the way out. What the store says of files
// and locks is for the log; it is shown to people who may change things.
func (v *visit) problem(err error) {
	p := problemPage{Status: http.StatusInternalServerError, What: "The server could not do this.", Request: v.c.Request(v.r)}
	switch {
	case errors.Is(err, store.ErrNotFound):
		p.Status, p.What = http.StatusNotFound, sentence(err.Error())
		p.Hint, p.HintLink = "Search for it", "/search"
		if errors.Is(err, errNoPage) {
			p.What = "There is no such page."
		}
	case errors.Is(err, errForbidden):
		p.Status, p.What = http.StatusForbidden, sentence(err.Error())
	case errors.Is(err, store.ErrBusy):
		p.Status, p.What = http.StatusServiceUnavailable, "The database is locked by another process. Reload in a moment."
	case errors.Is(err, store.ErrFull):
		p.Status, p.What = http.StatusInsufficientStorage, "The server's disk is full: reading works, nothing can be changed. Free some space on its file system."
	}
	if p.Status == http.StatusInternalServerError {
		v.c.Log.Error("page failed", "path", v.r.URL.Path, "request", p.Request, "error", err)
	}
	if err := v.show(p.Status, "problem", "", http.StatusText(p.Status), p); err != nil {
		v.c.Log.Error("problem page failed", "request", p.Request, "error", err)
		http.Error(v.w, "request "+p.Request+" failed", http.StatusInternalServerError)
	}
}

var errForbidden = errors.New("this account may read, not change: log in as an administrator")
