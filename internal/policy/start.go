package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// startSection is what a policy says about the parameters of a container.
type startSection struct {
	checks []startCheck // typed ones, in the order written
	rules  []rule
}

// startCheck looks at a request and returns what is wrong with it. The rule,
// the source and the policy are filled in by the caller.
type startCheck struct {
	rule, source string
	look         func(StartFacts) []event.Violation
}

func (ps parser) startSection(v document.Value) *startSection {
	s := &startSection{}
	add := func(v document.Value, rule string, look func(StartFacts) []event.Violation) {
		if look != nil {
			s.checks = append(s.checks, startCheck{rule: "start." + rule, source: v.Source(), look: look})
		}
	}
	v.Map(document.Fields{
		"privileged":        func(v document.Value) { add(v, "privileged", parsePrivileged(v)) },
		"hostNamespaces":    func(v document.Value) { add(v, "hostNamespaces", parseNamespaces(v)) },
		"addedCapabilities": func(v document.Value) { add(v, "addedCapabilities", parseCapabilities(v)) },
		"mounts":            func(v document.Value) { add(v, "mounts", parseMounts(v)) },
		"devices":           func(v document.Value) { add(v, "devices", parseDevices(v)) },
		"require": func(v document.Value) {
			v.List(len(requirements()), func(v document.Value) {
				rule, look := parseRequirement(v)
				add(v, "require."+rule, look)
			})
		},
		"rules": func(v document.Value) { s.rules = parseRules(v, "start", ps.envs.start) },
	})
	return s
}

// Start judges the parameters that somebody wants to start a container with by
// the start section of every policy that covers it. It does not judge the
// image: see Image.
func (s *Set) Start(now time.Time, facts StartFacts) event.Verdict {
	has := func(p *Policy) bool { return p.start != nil }
	return s.judge(now, facts.Subject, has, func(j *judgement, p *Policy) { p.start.judge(j, p, facts) })
}

func (s *startSection) judge(j *judgement, p *Policy, facts StartFacts) {
	for _, check := range s.checks {
		for _, violation := range check.look(facts) {
			violation.Rule, violation.Source = check.rule, check.source
			j.violated(p, violation)
		}
	}
	if len(s.rules) == 0 {
		return
	}
	vars := facts.variables()
	names := facts.names(ImageConfig{})
	vars["request"] = facts.view()
	for _, r := range s.rules {
		j.apply(p, r, names, vars)
	}
}

func (f StartFacts) view() *requestView {
	return &requestView{
		User: f.User, Privileged: f.Privileged, HostNamespaces: f.HostNamespaces,
		AddedCapabilities: f.AddCapabilities, Mounts: f.Mounts, Devices: f.Devices,
		MemoryLimit: f.MemoryLimit, PidsLimit: f.PidsLimit, CPULimit: f.CPULimit,
		NoNewPrivileges: f.NoNewPrivileges, ReadOnlyRootfs: f.ReadOnlyRootfs,
		Seccomp: f.Seccomp, AppArmor: f.AppArmor, SecurityOptions: f.SecurityOptions,
		CgroupParent: f.CgroupParent,
	}
}

func one(message, remediation string) []event.Violation {
	return []event.Violation{{Message: message, Remediation: remediation}}
}

func parsePrivileged(v document.Value) func(StartFacts) []event.Violation {
	if v.Word("deny", "allow") != "deny" {
		return nil
	}
	return func(f StartFacts) []event.Violation {
		if !f.Privileged {
			return nil
		}
		return one("The container would be privileged: it could do everything that root on the host can",
			"Start it without --privileged and add the single capability or device that it needs")
	}
}

// parseNamespaces reads deny, allow, or the list of the denied namespaces.
func parseNamespaces(v document.Value) func(StartFacts) []event.Violation {
	all := []string{"pid", "net", "ipc", "uts", "user", "cgroup"}
	denied := all
	if v.Kind == document.List {
		denied = nil
		v.List(len(all), func(v document.Value) { denied = append(denied, v.Word(all...)) })
	} else if v.Word("deny", "allow") != "deny" {
		return nil
	}
	return func(f StartFacts) []event.Violation {
		var found []event.Violation
		for _, ns := range f.HostNamespaces {
			if slices.Contains(denied, ns) {
				found = append(found, one(fmt.Sprintf("The container would share the host's %s namespace", ns),
					fmt.Sprintf("Start it without --%s=host", namespaceFlag(ns)))...)
			}
		}
		return found
	}
}

func namespaceFlag(namespace string) string {
	switch namespace {
	case "net":
		return "network"
	case "user":
		return "userns"
	case "cgroup":
		return "cgroupns"
	}
	return namespace
}

// parseCapabilities reads the list of the capabilities that may be added.
func parseCapabilities(v document.Value) func(StartFacts) []event.Violation {
	allowed := map[string]bool{}
	v.List(64, func(v document.Value) {
		name := capability(v.String())
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
			v.Fail("%q is not the name of a capability: write it as NET_BIND_SERVICE", v.Text)
		}
		allowed[name] = true
	})
	return func(f StartFacts) []event.Violation {
		var found []event.Violation
		for _, c := range f.AddCapabilities {
			if name := capability(c); !allowed[name] {
				found = append(found, one(fmt.Sprintf("The capability %s would be added", name),
					fmt.Sprintf("Start it without --cap-add=%s, or add it to addedCapabilities", name))...)
			}
		}
		return found
	}
}

func capability(name string) string {
	return strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(name)), "CAP_")
}

// parseMounts reads the host paths that must not be mounted, and those among
// them that may be when it is read-only.
func parseMounts(v document.Value) func(StartFacts) []event.Violation {
	var denied, readable []hostPattern
	ok := v.Map(document.Fields{
		"deny":          func(v document.Value) { denied = parseHostPatterns(v) },
		"allowReadOnly": func(v document.Value) { readable = parseHostPatterns(v) },
	})
	if ok {
		v.Require("deny")
	}
	return func(f StartFacts) []event.Violation {
		var found []event.Violation
		for _, m := range f.Mounts {
			harmless := func(p hostPattern) bool { return m.ReadOnly && p.matches(m.Source) }
			if m.Source == "" || slices.ContainsFunc(readable, harmless) {
				continue
			}
			for _, pattern := range denied {
				if pattern.exposedBy(m.Source) {
					found = append(found, one(fmt.Sprintf("The host's %s would be mounted at %s, and %s must not be", m.Source, m.Target, pattern.text),
						"Start it without that mount, or mount only the folder that it needs and read-only")...)
					break
				}
			}
		}
		return found
	}
}

// parseDevices reads deny, allow, or the host devices that may be passed in.
func parseDevices(v document.Value) func(StartFacts) []event.Violation {
	var allowed []hostPattern
	if v.Kind == document.Map {
		if v.Map(document.Fields{"allow": func(v document.Value) { allowed = parseHostPatterns(v) }}) {
			v.Require("allow")
		}
	} else if v.Word("deny", "allow") != "deny" {
		return nil
	}
	return func(f StartFacts) []event.Violation {
		var found []event.Violation
		for _, device := range f.Devices {
			if !slices.ContainsFunc(allowed, func(p hostPattern) bool { return p.matches(device) }) {
				found = append(found, one(fmt.Sprintf("The host's device %s would be passed in", device),
					fmt.Sprintf("Start it without --device=%s, or allow it in devices", device))...)
			}
		}
		return found
	}
}

// requirement is one thing that a container must be started with.
type requirement struct {
	name, message, remediation string
	holds                      func(StartFacts) bool
}

func requirements() []requirement {
	return []requirement{
		{"memoryLimit", "No memory limit is set", "Start it with --memory, for example --memory=512m", func(f StartFacts) bool { return f.MemoryLimit > 0 }},
		{"pidsLimit", "No limit of processes is set", "Start it with --pids-limit, for example --pids-limit=200", func(f StartFacts) bool { return f.PidsLimit > 0 }},
		{"cpuLimit", "No CPU limit is set", "Start it with --cpus, for example --cpus=2", func(f StartFacts) bool { return f.CPULimit > 0 }},
		{"noNewPrivileges", "The container could gain privileges through set-user-id programs", "Start it with --security-opt=no-new-privileges", func(f StartFacts) bool { return f.NoNewPrivileges }},
		{"seccomp", "The container would run without a seccomp profile", "Start it without --security-opt=seccomp=unconfined and without --privileged", func(f StartFacts) bool { return f.Seccomp != "unconfined" && !f.Privileged }},
		{"readOnlyRootfs", "The container's root file system would be writable", "Start it with --read-only and a --tmpfs for what it must write", func(f StartFacts) bool { return f.ReadOnlyRootfs }},
	}
}

func parseRequirement(v document.Value) (rule string, look func(StartFacts) []event.Violation) {
	var names []string
	for _, r := range requirements() {
		if v.Kind == document.String && v.Text == r.name {
			return r.name, func(f StartFacts) []event.Violation {
				if r.holds(f) {
					return nil
				}
				return one(r.message, r.remediation)
			}
		}
		names = append(names, r.name)
	}
	v.Word(names...) // says what is wrong
	return "", nil
}
