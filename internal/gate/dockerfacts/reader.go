package dockerfacts

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/policy"
)

// maxJoins bounds how far "container:" references are followed.
const maxJoins = 4

// reader reads one request or inspection.
type reader struct {
	ctx    context.Context
	host   Host
	look   Lookup // nil: nobody to ask
	stored bool   // the configuration comes from the engine, with its defaults filled in
}

// facts are all facts but the mounts and the subject.
func (r reader) facts(h *hostConfig) policy.StartFacts {
	f := policy.StartFacts{
		Privileged:      h.Privileged,
		AddCapabilities: capabilities(append(slices.Clone(h.CapAdd), h.Capabilities...)),
		Devices:         r.devices(h),
		MemoryLimit:     max(0, h.Memory),
		CPULimit:        cpus(h),
		NoNewPrivileges: r.host.NoNewPrivileges,
		ReadOnlyRootfs:  h.ReadonlyRootfs,
		Seccomp:         r.host.Seccomp,
		AppArmor:        r.host.AppArmor,
		CgroupParent:    h.CgroupParent,
	}
	if h.PidsLimit != nil {
		f.PidsLimit = max(0, *h.PidsLimit)
	}
	r.security(&f, h)
	r.namespaces(&f, h)
	return f
}

// security reads the security options as the engine does: "key=value", else
// "key:value"; the last one of a kind wins.
func (r reader) security(f *policy.StartFacts, h *hostConfig) {
	for _, option := range h.SecurityOpt {
		key, value, found := strings.Cut(option, "=")
		if !found {
			key, value, _ = strings.Cut(option, ":")
		}
		switch key {
		case "no-new-privileges":
			f.NoNewPrivileges = value == "" || value == "true" || value == "1" || strings.EqualFold(value, "t")
		case "seccomp":
			f.Seccomp = profile(value, "default")
			if f.Seccomp == "custom" {
				option = "seccomp=custom" // the profile itself is long and says nothing here
			}
		case "apparmor":
			f.AppArmor = value
		}
		f.SecurityOptions = append(f.SecurityOptions, option)
	}
	if h.Privileged { // the engine drops both for privileged containers
		f.Seccomp, f.AppArmor = "unconfined", "unconfined"
	}
	unmasked := lacks(h.MaskedPaths, "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware")
	unlocked := lacks(h.ReadonlyPaths, "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
	if (unmasked || unlocked) && !h.Privileged {
		f.SecurityOptions = append(f.SecurityOptions, "systempaths=unconfined")
	}
	if h.Runtime != "" && h.Runtime != "runc" && !strings.HasPrefix(h.Runtime, "io.containerd.runc.") {
		f.SecurityOptions = append(f.SecurityOptions, "runtime="+h.Runtime)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Annotations)) { // some runtimes obey them
		f.SecurityOptions = append(f.SecurityOptions, "annotation="+name)
	}
	switch h.LogConfig.Type {
	case "", "none", "local", "json-file", "journald":
	default: // the engine sends the output away, over the host's network
		f.SecurityOptions = append(f.SecurityOptions, "log="+h.LogConfig.Type)
	}
}

// lacks says whether a client's list leaves out any of the paths that every
// version of the engine has in its own (moby, oci.DefaultSpec). Without a list
// the engine takes its own.
func lacks(list *[]string, paths ...string) bool {
	return list != nil && slices.ContainsFunc(paths, func(p string) bool { return !slices.Contains(*list, p) })
}

func profile(value, standard string) string {
	switch value {
	case "unconfined":
		return "unconfined"
	case "", "builtin", "default":
		return standard
	}
	// The engine reads a profile of the client's own with the same decoder.
	var custom struct{ DefaultAction string }
	if json.Unmarshal([]byte(value), &custom) == nil && allowsByDefault(custom.DefaultAction) {
		return "unconfined"
	}
	return "custom"
}

// allowsByDefault: such a profile stops nothing that it does not name.
func allowsByDefault(action string) bool {
	return action == "SCMP_ACT_ALLOW" || action == "SCMP_ACT_LOG"
}

// namespaces finds which of the host's namespaces the container gets, directly
// or by joining a container that has them.
func (r reader) namespaces(f *policy.StartFacts, h *hostConfig) {
	modes := []struct{ kind, mode string }{
		{"pid", h.PidMode}, {"net", h.NetworkMode}, {"ipc", h.IpcMode}, {"uts", h.UTSMode}, {"user", h.UsernsMode},
	}
	for _, m := range modes {
		if r.isHost(m.kind, m.mode, maxJoins) {
			addNamespace(f, m.kind)
		}
		if strings.HasPrefix(m.mode, "container:") {
			f.SecurityOptions = append(f.SecurityOptions, m.kind+"="+m.mode)
		}
	}
	if h.CgroupnsMode == "host" && (!r.stored || !r.host.CgroupV1) {
		addNamespace(f, "cgroup")
	}
	if h.Cgroup != "" {
		f.SecurityOptions = append(f.SecurityOptions, "cgroup="+h.Cgroup)
	}
}

func addNamespace(f *policy.StartFacts, kind string) {
	if !slices.Contains(f.HostNamespaces, kind) {
		f.HostNamespaces = append(f.HostNamespaces, kind)
	}
}

// isHost says whether a namespace mode ends at the host's. A joined container
// that cannot be asked about, or a chain without end, counts as the host's:
// better refused than guessed.
func (r reader) isHost(kind, mode string, joins int) bool {
	other, joined := strings.CutPrefix(mode, "container:")
	switch {
	case mode == "host":
		return true
	case !joined || r.look == nil:
		return false
	case joins == 0:
		return true
	}
	h, err := r.hostConfigOf(other)
	if err != nil {
		return true
	}
	next := map[string]string{"pid": h.PidMode, "net": h.NetworkMode, "ipc": h.IpcMode, "uts": h.UTSMode, "user": h.UsernsMode}[kind]
	return r.isHost(kind, next, joins-1)
}

func (r reader) hostConfigOf(id string) (*hostConfig, error) {
	raw, err := r.look.Container(r.ctx, id)
	if err != nil {
		return nil, err
	}
	var c inspection
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	if c.HostConfig == nil {
		c.HostConfig = &hostConfig{}
	}
	return c.HostConfig, nil
}

// capabilities in the policy's spelling: upper case, without CAP_.
func capabilities(added []string) []string {
	var out []string
	for _, c := range added {
		c = strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(c)), "CAP_")
		if c != "" && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// devices are host paths, and in words what has no path: device cgroup rules
// and requests to device drivers.
func (r reader) devices(h *hostConfig) []string {
	var out []string
	for _, d := range h.Devices {
		out = append(out, r.host.Paths.Names(d.PathOnHost)...)
	}
	for _, rule := range h.DeviceCgroupRules {
		out = append(out, "cgroup-rule:"+rule)
	}
	for _, q := range h.DeviceRequests {
		var kinds []string
		for _, set := range q.Capabilities {
			kinds = append(kinds, strings.Join(set, "+"))
		}
		out = append(out, "request:"+q.Driver+":"+strings.Join(kinds, ","))
	}
	return out
}

// cpus is the limit in cores (the engine's default period is 100 ms).
func cpus(h *hostConfig) float64 {
	switch {
	case h.NanoCpus > 0:
		return float64(h.NanoCpus) / 1e9
	case h.CpuQuota > 0 && h.CpuPeriod > 0:
		return float64(h.CpuQuota) / float64(h.CpuPeriod)
	case h.CpuQuota > 0:
		return float64(h.CpuQuota) / 100_000
	}
	return 0
}
