package web

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/store"
)

type policiesPage struct {
	Rows       []policyRow
	Generation uint64
	Hosts      []enforcing
}

type policyRow struct {
	store.Policy
	Containers int // that hold it in force
}

// enforcing is what one host has in force, against what there is.
type enforcing struct {
	Agent, Host        string
	Generation, Newest uint64
	Containers         []store.Placement // with the policy, on a policy's page
	Outside            int               // containers without it
}

// Behind says whether the host has not yet acknowledged the newest generation.
func (e enforcing) Behind() bool { return e.Generation < e.Newest }

// inForce lists per host what is enforced, of one policy or ("") of all.
func (c *Console) inForce(v *visit, policy string) ([]enforcing, uint64, error) {
	newest, err := c.Store.Generation(v.ctx)
	if err != nil {
		return nil, 0, err
	}
	agents, err := c.Store.Agents(v.ctx)
	if err != nil {
		return nil, 0, err
	}
	var out []enforcing
	for _, a := range agents {
		if !a.Revoked.IsZero() {
			continue
		}
		e := enforcing{Agent: a.ID, Host: a.Host, Newest: newest}
		if a.Status != nil {
			e.Generation = a.Status.Generation
			for _, g := range a.Status.Containers {
				if policy != "" && !slices.Contains(g.Policies, policy) {
					e.Outside++
					continue
				}
				e.Containers = append(e.Containers, store.Placement{Agent: a.ID, Host: a.Host, Container: g.Container.ID, Name: g.Container.Name, Mode: g.Mode, Generation: g.Generation})
			}
		}
		out = append(out, e)
	}
	return out, newest, nil
}

func (c *Console) policies(v *visit) error {
	all, err := c.Store.Policies(v.ctx)
	if err != nil {
		return err
	}
	p := policiesPage{}
	if p.Hosts, p.Generation, err = c.inForce(v, ""); err != nil {
		return err
	}
	agents, err := c.Store.Agents(v.ctx)
	if err != nil {
		return err
	}
	holds := map[string]int{}
	for _, a := range agents {
		if a.Status == nil || !a.Revoked.IsZero() {
			continue
		}
		for _, g := range a.Status.Containers {
			for _, name := range g.Policies {
				holds[name]++
			}
		}
	}
	for _, pol := range all {
		p.Rows = append(p.Rows, policyRow{pol, holds[pol.Name]})
	}
	return v.show(http.StatusOK, "policies", "policies", "Policies", p)
}

// policyPage is one version of a policy with its lines, and where it is in force.
type policyPage struct {
	store.Policy
	Newest   int
	Lines    []string
	Versions []store.Policy
	Hosts    []enforcing
	Holding  int // containers that are under it now
}

func (c *Console) policy(v *visit) error {
	name := v.r.PathValue("name")
	version, err := strconv.Atoi(orZero(v.r.URL.Query().Get("version")))
	if err != nil || version < 0 {
		return v.badRequest(fmt.Errorf("version %q is not a number", v.r.URL.Query().Get("version")))
	}
	pol, err := c.Store.Policy(v.ctx, name, version)
	if err != nil {
		return err
	}
	p := policyPage{Policy: pol, Lines: strings.Split(strings.TrimSuffix(pol.Source, "\n"), "\n")}
	if p.Versions, err = c.Store.PolicyVersions(v.ctx, name); err != nil {
		return err
	}
	p.Newest = p.Versions[0].Version
	if p.Hosts, _, err = c.inForce(v, name); err != nil {
		return err
	}
	for _, h := range p.Hosts {
		p.Holding += len(h.Containers)
	}
	return v.show(http.StatusOK, "policy", "policies", "Policy "+name, p)
}

func orZero(s string) string {
	if s == "" {
		return "0"
	}
	return s
}

// editPage is the editor with what is wrong, at its line.
type editPage struct {
	Name     string // "" for a new policy
	Base     int
	Source   string
	Problems []Problem
	Conflict string
}

// newPolicy is what a new policy begins with.
const newPolicy = `apiVersion: breakwater/v1
kind: Policy
metadata:
  name: my-service
  description: What this policy is for
scope: image.repository.startsWith("registry.example/my-service")
mode: audit # same verdicts, nothing is stopped; then: enforce
run:
  exec: {drift: block, fileless: kill}
  network: {metadataService: deny}
`

func (c *Console) policyNew(v *visit) error {
	return v.edit(http.StatusOK, editPage{Source: newPolicy})
}

func (c *Console) policyEdit(v *visit) error {
	pol, err := c.Store.Policy(v.ctx, v.r.PathValue("name"), 0)
	if err != nil {
		return err
	}
	return v.edit(http.StatusOK, editPage{Name: pol.Name, Base: pol.Version, Source: pol.Source})
}

func (v *visit) edit(status int, p editPage) error {
	title := "New policy"
	if p.Name != "" {
		title = "Edit " + p.Name
	}
	return v.show(status, "policy_edit", "policies", title, p)
}

// policyPut checks the form and stores the next version.
func (c *Console) policyPut(v *visit) error {
	if !v.who.MayWrite() {
		return errForbidden
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	if err := v.r.ParseForm(); err != nil {
		return v.badRequest(fmt.Errorf("the form could not be read (at most %s): %w", size(maxForm), err))
	}
	base, err := strconv.Atoi(orZero(v.r.PostForm.Get("base")))
	if err != nil || base < 0 {
		return v.badRequest(fmt.Errorf("base %q is not a version", v.r.PostForm.Get("base")))
	}
	p := editPage{Name: v.r.PostForm.Get("name"), Base: base, Source: strings.ReplaceAll(v.r.PostForm.Get("source"), "\r\n", "\n")}
	name, problems := c.Policies.Check(p.Source)
	if p.Name != "" && name != "" && name != p.Name {
		problems = append(problems, Problem{Message: fmt.Sprintf("metadata.name is %q: a policy keeps its name %q; make a new policy instead", name, p.Name)})
	}
	if len(problems) > 0 {
		p.Problems = problems
		return v.edit(http.StatusUnprocessableEntity, p)
	}
	pol, err := c.Policies.Put(v.ctx, p.Source, base, v.actor())
	if errors.Is(err, store.ErrConflict) {
		p.Conflict = sentence(err.Error())
		return v.edit(http.StatusConflict, p)
	}
	if err != nil {
		return err
	}
	http.Redirect(v.w, v.r, policyLink(pol.Name, 0), http.StatusSeeOther)
	return nil
}

// policyDelete takes a policy out of force.
func (c *Console) policyDelete(v *visit) error {
	if !v.who.MayWrite() {
		return errForbidden
	}
	pol, err := c.Policies.Delete(v.ctx, v.r.PathValue("name"), v.actor())
	if err != nil {
		return err
	}
	http.Redirect(v.w, v.r, policyLink(pol.Name, 0), http.StatusSeeOther)
	return nil
}

// ruleLine finds the line of a rule such as run.exec.drift in a policy's
// source, by looking for each word of its path as a key, below the one before;
// the rule's own id counts as a key. It returns the line of the longest
// beginning that stands there, 0 when not even the section does. It is a help
// for the eye: what decided is named by the rule itself.
func ruleLine(source, rule string) int {
	lines := strings.Split(source, "\n")
	found, from := 0, 0
	for _, word := range strings.Split(rule, ".") {
		at := slices.IndexFunc(lines[from:], func(line string) bool { return hasKey(line, word) })
		if word == "" || at < 0 {
			return found
		}
		from += at
		found = from + 1
	}
	return found
}

// hasKey says whether a line of YAML holds the key, in block or flow style, or
// is the id of a rule of that name.
func hasKey(line, key string) bool {
	code, _, _ := strings.Cut(line, " #")
	fields := strings.FieldsFunc(code, func(r rune) bool { return strings.ContainsRune(" \t{},", r) })
	for i, f := range fields {
		if f == key+":" || f == key && i > 0 && fields[i-1] == "id:" {
			return true
		}
	}
	return false
}
