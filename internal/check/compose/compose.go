// Package compose reads Compose files (the Compose specification, and the older
// formats 2 and 3) for checks. Short and long forms come out the same. Variables
// have their defaults; `extends`, `include` and `env_file` are not followed.
package compose

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/document"
)

// Project is one Compose file.
type Project struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"` // the obsolete field
	Networks []string `json:"networks"`
	Volumes  []string `json:"volumes"`
	Secrets  []Secret `json:"secrets"`
	// Includes says that other files belong to it.
	Includes bool `json:"includes"`

	Services []*Service     `json:"-"`
	Node     *document.Node `json:"-"`
}

// Secret is one secret of the project.
type Secret struct {
	Name        string `json:"name"`
	File        string `json:"file"`
	Environment string `json:"environment"`
	External    bool   `json:"external"`
}

// Service is one service.
type Service struct {
	Name          string            `json:"name"`
	Image         string            `json:"image"`
	Repository    string            `json:"repository"`
	Tag           string            `json:"tag"`
	Digest        string            `json:"digest"`
	Build         bool              `json:"build"`
	BuildArgs     map[string]string `json:"buildArgs"`
	Command       []string          `json:"command"` // entrypoint and command, as words
	Environment   map[string]string `json:"environment"`
	EnvFiles      []string          `json:"envFiles"`
	Labels        map[string]string `json:"labels"`
	User          string            `json:"user"`
	Privileged    bool              `json:"privileged"`
	ReadOnly      bool              `json:"readOnly"`
	Added         []string          `json:"addedCapabilities"` // upper case, without CAP_
	Dropped       []string          `json:"droppedCapabilities"`
	Security      []string          `json:"securityOptions"` // as "name=value"
	Pid           string            `json:"pid"`
	Ipc           string            `json:"ipc"`
	Uts           string            `json:"uts"`
	Userns        string            `json:"userns"`
	Cgroup        string            `json:"cgroup"`
	CgroupParent  string            `json:"cgroupParent"`
	NetworkMode   string            `json:"networkMode"`
	Devices       []string          `json:"devices"` // of the host
	DeviceRules   []string          `json:"deviceRules"`
	Ports         []Port            `json:"ports"`
	Mounts        []Mount           `json:"mounts"`
	Sysctls       []string          `json:"sysctls"` // names
	Groups        []string          `json:"groups"`
	Restart       string            `json:"restart"`
	Healthcheck   bool              `json:"healthcheck"`
	MemoryLimit   string            `json:"memoryLimit"`
	CPULimit      string            `json:"cpuLimit"`
	PidsLimit     string            `json:"pidsLimit"`
	Logging       string            `json:"logging"` // driver
	Runtime       string            `json:"runtime"`
	OOMDisabled   bool              `json:"oomDisabled"`
	UsesAPISocket bool              `json:"usesAPISocket"`
	Networks      []string          `json:"networks"`
	Extends       bool              `json:"extends"`

	Node *document.Node `json:"-"`
}

// Port is one published port.
type Port struct {
	Address   string `json:"address"` // of the host; "" for every one
	Published string `json:"published"`
	Target    string `json:"target"`
}

// Mount is one volume or bind mount.
type Mount struct {
	Type     string `json:"type"`   // bind, volume, tmpfs, …
	Source   string `json:"source"` // of a bind the path, absolute ones cleaned
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly"`
	Shared   bool   `json:"shared"` // propagation shared or rshared
}

// IsProject says whether a document is a Compose file.
func IsProject(doc *document.Node) bool {
	services := doc.Field("services")
	return services != nil && services.Kind == document.Map && doc.Field("apiVersion") == nil
}

// maxServices is how many services of one file are read.
const maxServices = 2_000

// Read reads the project of a document.
func Read(doc *document.Node) *Project {
	p := &Project{
		Name: doc.Field("name").Scalar(), Version: doc.Field("version").Scalar(), Includes: doc.Field("include") != nil,
		Networks: keys(doc.Field("networks")), Volumes: keys(doc.Field("volumes")), Secrets: []Secret{}, Node: doc,
	}
	if secrets := doc.Field("secrets"); secrets != nil {
		for _, s := range secrets.Pairs {
			p.Secrets = append(p.Secrets, Secret{
				Name: s.Key, File: s.Value.Field("file").Scalar(), Environment: s.Value.Field("environment").Scalar(), External: s.Value.Field("external").Truth(false),
			})
		}
	}
	if services := doc.Field("services"); services != nil {
		for _, s := range services.Pairs[:min(len(services.Pairs), maxServices)] {
			p.Services = append(p.Services, service(s.Key, s.Value))
		}
	}
	return p
}

func keys(n *document.Node) []string {
	list := []string{}
	if n != nil {
		for _, p := range n.Pairs {
			list = append(list, p.Key)
		}
	}
	return list
}

func service(name string, n *document.Node) *Service {
	limits := n.Field("deploy", "resources", "limits")
	s := &Service{
		Name: name, Image: substitute(n.Field("image").Scalar()), Build: n.Field("build") != nil, BuildArgs: pairs(n.Field("build", "args")),
		Command:     append(words(n.Field("entrypoint")), words(n.Field("command"))...),
		Environment: pairs(n.Field("environment")), EnvFiles: texts(n.Field("env_file")), Labels: pairs(n.Field("labels")),
		User: substitute(n.Field("user").Scalar()), Privileged: n.Field("privileged").Truth(false), ReadOnly: n.Field("read_only").Truth(false),
		Added: capabilities(n.Field("cap_add")), Dropped: capabilities(n.Field("cap_drop")), Security: options(n.Field("security_opt")),
		Pid: n.Field("pid").Scalar(), Ipc: n.Field("ipc").Scalar(), Uts: n.Field("uts").Scalar(), Userns: n.Field("userns_mode").Scalar(),
		Cgroup: n.Field("cgroup").Scalar(), CgroupParent: n.Field("cgroup_parent").Scalar(), NetworkMode: n.Field("network_mode").Scalar(),
		Devices: devices(n.Field("devices")), DeviceRules: texts(n.Field("device_cgroup_rules")), Ports: ports(n.Field("ports")),
		Mounts: mounts(n.Field("volumes")), Sysctls: names(pairs(n.Field("sysctls"))), Groups: texts(n.Field("group_add")),
		Restart: n.Field("restart").Scalar(), Healthcheck: n.Field("healthcheck") != nil && !n.Field("healthcheck", "disable").Truth(false),
		MemoryLimit: either(n.Field("mem_limit"), limits.Field("memory")), CPULimit: either(n.Field("cpus"), limits.Field("cpus")),
		PidsLimit: either(n.Field("pids_limit"), limits.Field("pids")), Logging: n.Field("logging", "driver").Scalar(), Runtime: n.Field("runtime").Scalar(),
		OOMDisabled: n.Field("oom_kill_disable").Truth(false), UsesAPISocket: n.Field("use_api_socket").Truth(false),
		Networks: append(keys(n.Field("networks")), n.Field("networks").Scalars()...), Extends: n.Field("extends") != nil, Node: n,
	}
	rest, digest, _ := strings.Cut(s.Image, "@")
	s.Digest = digest
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, s.Tag = rest[:i], rest[i+1:]
	}
	s.Repository = rest
	return s
}

func either(a, b *document.Node) string {
	if s := a.Scalar(); s != "" {
		return s
	}
	return b.Scalar()
}

func texts(n *document.Node) []string {
	list := []string{}
	for _, item := range n.Elements() {
		text := item.Scalar()
		if path := item.Field("path"); path != nil { // env_file's long form
			text = path.Scalar()
		}
		list = append(list, text)
	}
	if n != nil && n.Kind != document.List && n.Scalar() != "" {
		list = append(list, n.Scalar())
	}
	return list
}

func words(n *document.Node) []string {
	if n != nil && n.Kind != document.List {
		return append([]string{}, strings.Fields(n.Scalar())...)
	}
	return texts(n)
}

// pairs reads a map, or a list of NAME=value.
func pairs(n *document.Node) map[string]string {
	m := n.Texts()
	for _, item := range n.Elements() {
		name, value, _ := strings.Cut(item.Scalar(), "=")
		m[name] = value
	}
	return m
}

func names(m map[string]string) []string {
	return slices.AppendSeq([]string{}, slices.Values(slices.Sorted(maps.Keys(m))))
}

func capabilities(n *document.Node) []string {
	list := texts(n)
	for i, name := range list {
		list[i] = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	}
	return list
}

// options writes security options in one form: name=value.
func options(n *document.Node) []string {
	list := texts(n)
	for i, o := range list {
		if !strings.Contains(o, "=") {
			list[i] = strings.Replace(o, ":", "=", 1)
		}
	}
	return list
}

func devices(n *document.Node) []string {
	list := []string{}
	for _, d := range n.Elements() {
		source := d.Field("source").Scalar()
		if source == "" {
			source, _, _ = strings.Cut(d.Scalar(), ":")
		}
		list = append(list, source)
	}
	return list
}

func ports(n *document.Node) []Port {
	list := []Port{}
	for _, p := range n.Elements() {
		if p.Kind == document.Map {
			list = append(list, Port{p.Field("host_ip").Scalar(), p.Field("published").Scalar(), p.Field("target").Scalar()})
			continue
		}
		list = append(list, port(substitute(p.Scalar())))
	}
	return list
}

// port reads [address:][published:]target[/protocol].
func port(text string) Port {
	text, _, _ = strings.Cut(text, "/")
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return Port{Target: text}
	}
	p := Port{Target: text[i+1:], Published: text[:i]}
	if i := strings.LastIndexByte(p.Published, ':'); i >= 0 {
		p.Address, p.Published = strings.Trim(p.Published[:i], "[]"), p.Published[i+1:]
	}
	return p
}

func mounts(n *document.Node) []Mount {
	list := []Mount{}
	for _, v := range n.Elements() {
		m := Mount{}
		if v.Kind == document.Map {
			m = Mount{Type: v.Field("type").Scalar(), Source: v.Field("source").Scalar(), Target: v.Field("target").Scalar(), ReadOnly: v.Field("read_only").Truth(false)}
			m.Shared = strings.HasSuffix(v.Field("bind", "propagation").Scalar(), "shared")
		} else {
			m = mount(substitute(v.Scalar()))
		}
		if strings.HasPrefix(m.Source, "/") {
			m.Source = path.Clean(m.Source)
		}
		list = append(list, m)
	}
	return list
}

// mount reads [source:]target[:options].
func mount(text string) Mount {
	parts := strings.Split(text, ":")
	if len(parts) == 1 {
		return Mount{Type: "volume", Target: text}
	}
	m := Mount{Type: "volume", Source: parts[0], Target: parts[1]}
	if strings.ContainsAny(m.Source[:min(1, len(m.Source))], ".~") || strings.Contains(m.Source, "/") { // no volume's name has a slash
		m.Type = "bind"
	}
	if len(parts) > 2 {
		for o := range strings.SplitSeq(parts[2], ",") {
			m.ReadOnly = m.ReadOnly || o == "ro"
			m.Shared = m.Shared || o == "shared" || o == "rshared"
		}
	}
	return m
}

// substitute puts the defaults of ${NAME:-default} in; what has none stays as
// it is written.
func substitute(text string) string {
	var b strings.Builder
	for {
		start := strings.Index(text, "${")
		if start < 0 {
			break
		}
		end := strings.IndexByte(text[start:], '}')
		if end < 0 {
			break
		}
		inner := text[start+2 : start+end]
		b.WriteString(text[:start])
		if i := strings.Index(inner, "-"); i >= 0 {
			b.WriteString(inner[i+1:])
		} else {
			b.WriteString(text[start : start+end+1])
		}
		text = text[start+end+1:]
	}
	b.WriteString(text)
	return b.String()
}
