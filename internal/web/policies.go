package web

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

type policiesPage struct {
	Rows       []policyRow
	Generation uint64
	Hosts      []enforcing
}

// policyRow is a policy with what it speaks of and where it counts.
type policyRow struct {
	store.Policy
	outline
	Images  int // whose newest verdict it took part in
	Started int // running containers whose image and start it judged
	Guarded int // running containers whose kernel rules it is part of
}

// enforcing is what one host has in force, against what there is.
type enforcing struct {
	Agent, Host        string
	Generation, Newest uint64
	Containers         []underPolicy // on a policy's page: at most maxListed
	More               int           // containers that are not listed
	Outside            int           // containers that the policy does not apply to
}

// underPolicy is a container that a policy applies to.
type underPolicy struct {
	ID, Name, Mode   string
	Started, Guarded bool
}

// maxListed bounds the containers that one row names.
const maxListed = 50

// Behind says whether the host has not yet acknowledged the newest generation.
func (e enforcing) Behind() bool { return e.Generation < e.Newest }

// applies says what a policy does for a running container: whether it judged
// its image and start, and whether the kernel holds its run section.
func applies(policy string, g event.Guarded) (started, guarded bool) {
	return g.Verdict != nil && slices.Contains(g.Verdict.Policies, policy), slices.Contains(g.Policies, policy)
}

// trusted lists the agents that are not revoked.
func (c *Console) trusted(v *visit) ([]store.Agent, error) {
	agents, err := c.Store.Agents(v.ctx)
	return slices.DeleteFunc(agents, func(a store.Agent) bool { return !a.Revoked.IsZero() }), err
}

// inForce lists per host what is enforced, of one policy or ("") of all, and
// how many containers the policy applies to.
func inForce(agents []store.Agent, newest uint64, policy string) (hosts []enforcing, holding int) {
	for _, a := range agents {
		e := enforcing{Agent: a.ID, Host: a.Host, Newest: newest}
		if a.Status != nil {
			e.Generation = a.Status.Generation
			for _, g := range a.Status.Containers {
				holding += e.add(policy, g)
			}
		}
		hosts = append(hosts, e)
	}
	return hosts, holding
}

// add counts a container and returns 1 when the policy applies to it.
func (e *enforcing) add(policy string, g event.Guarded) int {
	u := underPolicy{ID: g.Container.ID, Name: g.Container.Name, Mode: g.Mode}
	u.Started, u.Guarded = applies(policy, g)
	switch {
	case !u.Started && !u.Guarded:
		e.Outside++
		return 0
	case len(e.Containers) < maxListed:
		e.Containers = append(e.Containers, u)
	default:
		e.More++
	}
	return 1
}

func (c *Console) policies(v *visit) error {
	all, err := c.Store.Policies(v.ctx)
	if err != nil {
		return err
	}
	p := policiesPage{}
	if p.Generation, err = c.Store.Generation(v.ctx); err != nil {
		return err
	}
	agents, err := c.trusted(v)
	if err != nil {
		return err
	}
	images, err := c.Store.JudgedBy(v.ctx)
	if err != nil {
		return err
	}
	p.Hosts, _ = inForce(agents, p.Generation, "")
	for _, pol := range all {
		row := policyRow{Policy: pol, outline: outlineOf(pol.Source), Images: images[pol.Name]}
		row.count(agents)
		p.Rows = append(p.Rows, row)
	}
	return v.show(http.StatusOK, "policies", "policies", "Policies", p)
}

func (r *policyRow) count(agents []store.Agent) {
	for _, a := range agents {
		if a.Status == nil {
			continue
		}
		for _, g := range a.Status.Containers {
			started, guarded := applies(r.Name, g)
			if started {
				r.Started++
			}
			if guarded {
				r.Guarded++
			}
		}
	}
}

// policyPage is one version of a policy with its lines, and where it is in force.
type policyPage struct {
	store.Policy
	outline
	Newest   int
	Lines    []string
	Versions []store.Policy
	Hosts    []enforcing
	Images   int // whose newest verdict it took part in
	Holding  int // running containers that it applies to
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
	p := policyPage{Policy: pol, outline: outlineOf(pol.Source), Lines: strings.Split(strings.TrimRight(pol.Source, "\n"), "\n")}
	if p.Versions, err = c.Store.PolicyVersions(v.ctx, name); err != nil {
		return err
	}
	p.Newest = p.Versions[0].Version
	newest, err := c.Store.Generation(v.ctx)
	if err != nil {
		return err
	}
	agents, err := c.trusted(v)
	if err != nil {
		return err
	}
	images, err := c.Store.JudgedBy(v.ctx)
	if err != nil {
		return err
	}
	p.Images = images[name]
	p.Hosts, p.Holding = inForce(agents, newest, name)
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
	http.Redirect(v.w, v.r, policyLink(pol.Name), http.StatusSeeOther)
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
	http.Redirect(v.w, v.r, policyLink(pol.Name), http.StatusSeeOther)
	return nil
}
