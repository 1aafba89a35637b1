package policy

import (
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// imageView is the variable image.
type imageView struct {
	Repository string      `json:"repository"` // of one of its references, without tag and digest
	Tag        string      `json:"tag"`
	Digest     string      `json:"digest"` // the config digest
	Platform   string      `json:"platform"`
	References []string    `json:"references"`
	Config     ImageConfig `json:"config"` // in rules of the image section only
}

// containerView is the variable container.
type containerView struct {
	Name     string            `json:"name"`
	Engine   string            `json:"engine"`
	Labels   map[string]string `json:"labels"`
	Workload string            `json:"workload"`
	Build    bool              `json:"build"`
}

// requestView is the variable request of the start section.
type requestView struct {
	User              string   `json:"user"`
	Privileged        bool     `json:"privileged"`
	HostNamespaces    []string `json:"hostNamespaces"`
	AddedCapabilities []string `json:"addedCapabilities"`
	Mounts            []Mount  `json:"mounts"`
	Devices           []string `json:"devices"`
	MemoryLimit       int64    `json:"memoryLimit"` // bytes
	PidsLimit         int64    `json:"pidsLimit"`
	CPULimit          float64  `json:"cpuLimit"` // cores
	NoNewPrivileges   bool     `json:"noNewPrivileges"`
	ReadOnlyRootfs    bool     `json:"readOnlyRootfs"`
	Seccomp           string   `json:"seccomp"`
	AppArmor          string   `json:"apparmor"`
	SecurityOptions   []string `json:"securityOptions"`
	CgroupParent      string   `json:"cgroupParent"`
}

// envs holds the variables that each place of a policy may read.
type envs struct {
	subject   *condition.Env // scope
	image     *condition.Env // image.rules
	start     *condition.Env // start.rules
	exception *condition.Env // exceptions
}

// environments is built once: the variables never change.
var environments = sync.OnceValues(func() (*envs, error) {
	var built envs
	var failed error
	build := func(extra map[string]any) *condition.Env {
		variables := map[string]any{"image": imageView{}, "container": containerView{}, "host": "", "stage": ""}
		for name, example := range extra {
			variables[name] = example
		}
		env, err := condition.NewEnv(variables)
		if err != nil {
			failed = err
		}
		return env
	}
	built.subject = build(nil)
	built.image = build(map[string]any{"findings": []event.Finding{}, "packages": []event.Package{}})
	built.start = build(map[string]any{"request": requestView{}})
	built.exception = build(map[string]any{"rule": "", "finding": event.Finding{}})
	return &built, failed
})

// maxNames bounds how many references of one image a condition is tried on.
// An image with more is under every policy and under no exception.
const maxNames = 500

func (s Subject) tooManyNames() bool { return len(s.Image.References) > maxNames }

// names is the image once per reference: an image is its content, and whoever
// adds or removes a name must not thereby leave a scope.
func (s Subject) names(config ImageConfig) []*imageView {
	base := imageView{Digest: s.Image.Digest, Platform: s.Image.Platform, References: s.Image.References, Config: config}
	if len(s.Image.References) == 0 {
		return []*imageView{&base}
	}
	views := make([]*imageView, 0, len(s.Image.References))
	for _, reference := range s.Image.References[:min(len(s.Image.References), maxNames)] {
		view := base
		view.Repository, view.Tag = SplitReference(reference)
		views = append(views, &view)
	}
	return views
}

func (s Subject) variables() map[string]any {
	c := s.Container
	return map[string]any{
		"container": &containerView{Name: c.Name, Engine: c.Engine, Labels: c.Labels, Workload: c.Workload, Build: c.Build},
		"host":      s.Host,
		"stage":     s.Stage,
	}
}

// SplitReference takes a reference apart as policies see it: the repository in
// its familiar form ("nginx" for "docker.io/library/nginx:1@sha256:…") and the
// tag. A bare digest has neither.
func SplitReference(reference string) (repository, tag string) {
	repository, _, _ = strings.Cut(reference, "@")
	if strings.HasPrefix(repository, "sha256:") {
		return "", ""
	}
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		repository, tag = repository[:i], repository[i+1:]
	}
	for _, hub := range []string{"docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/"} {
		if rest, ok := strings.CutPrefix(repository, hub); ok {
			return rest, tag
		}
	}
	return repository, tag
}
