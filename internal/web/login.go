package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// maxForm bounds the body of every form.
const maxForm = 2 << 20

type loginPage struct {
	Name, Next, Problem string
}

func (c *Console) loginForm(w http.ResponseWriter, r *http.Request) {
	if _, err := c.Auth.Identify(r); err == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	c.showLogin(w, r, http.StatusOK, loginPage{Next: localPath(r.URL.Query().Get("next"))})
}

func (c *Console) showLogin(w http.ResponseWriter, r *http.Request, status int, p loginPage) {
	if err := c.render(w, status, "login", frame{Title: "Log in", Theme: theme(r), Version: c.Version, Page: p}); err != nil {
		c.Log.Error("login page failed", "error", err)
		http.Error(w, "the login page failed", http.StatusInternalServerError)
	}
}

func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	p := loginPage{Name: r.PostFormValue("name"), Next: localPath(r.PostFormValue("next"))}
	by := store.Actor{Address: auth.Address(r), Request: c.Request(r)}
	value, err := c.Auth.Login(r.Context(), p.Name, r.PostFormValue("password"), by)
	if err != nil {
		var status int
		p.Problem, status = c.loginProblem(err, by.Request)
		c.showLogin(w, r, status, p)
		return
	}
	auth.SetCookie(w, value)
	http.Redirect(w, r, p.Next, http.StatusSeeOther)
}

func (c *Console) loginProblem(err error, request string) (text string, status int) {
	var limited *auth.LimitedError
	switch {
	case errors.As(err, &limited):
		return sentence(limited.Error()), http.StatusTooManyRequests
	case errors.Is(err, auth.ErrDenied):
		return "Name or password is wrong.", http.StatusUnauthorized
	case errors.Is(err, store.ErrFull):
		return "The server's disk is full, so no session can be kept. Free some space on its file system.", http.StatusInsufficientStorage
	}
	c.Log.Error("login failed", "request", request, "error", err)
	return "The server could not check the login (request " + request + ").", http.StatusServiceUnavailable
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	by := store.Actor{Address: auth.Address(r), Request: c.Request(r)}
	if who, err := c.Auth.Identify(r); err == nil {
		by.Name = who.Name
	}
	if err := c.Auth.Logout(r, by); err != nil {
		c.Log.Error("logout failed", "request", by.Request, "error", err)
	}
	auth.DropCookie(w)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// localPath keeps a path on this server; anything else becomes the overview.
func localPath(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

const themeCookie = "__Host-theme"

// theme is the reader's choice: light, dark, or "" for the system's.
func theme(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}

func (c *Console) theme(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	next := &http.Cookie{Name: themeCookie, Value: r.PostFormValue("theme"), Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: 365 * 24 * 3600}
	if next.Value != "light" && next.Value != "dark" {
		next.Value, next.MaxAge = "", -1
	}
	http.SetCookie(w, next)
	http.Redirect(w, r, localPath(r.PostFormValue("next")), http.StatusSeeOther)
}
