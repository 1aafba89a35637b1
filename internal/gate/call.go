package gate

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// treatment is what the gate does with a call to the engine.
type treatment string

const (
	pass       treatment = "let through" // harmless for what may run, or judged later
	createCall treatment = "create"      // the rest are judged
	startCall  treatment = "start"
	execCall   treatment = "exec"
	updateCall treatment = "update"
	buildCall  treatment = "build"
	refuse     treatment = "refused" // unless the administrator allows the class
)

// endpoint says how a kind of call is treated. In a path, * is one segment and
// ** is one or more.
type endpoint struct {
	methods string // one or more, separated by spaces
	path    string
	treat   treatment
	class   string // of refused ones: what `gate run --allow` names
	why     string
}

// endpoints are all calls of the Docker Engine API (1.24 to 1.51) that change
// anything; a call that stands nowhere here is refused, because an engine that
// is newer than the gate may do anything with it. Reads are let through.
var endpoints = []endpoint{
	{"POST", "/containers/create", createCall, "", "a container to be"},
	{"POST", "/containers/*/start", startCall, "", "judged again, by the digest it was created from"},
	{"POST", "/containers/*/restart", startCall, "", "a start"},
	{"POST", "/containers/*/update", updateCall, "", "may lift limits"},
	{"POST", "/containers/*/exec", execCall, "", "may be privileged"},
	{"POST", "/build", buildCall, "", "its steps run as containers"},
	{"POST", "/grpc", buildCall, "", "BuildKit's control connection: its steps run as containers"},

	{"POST", "/exec/*/start", pass, "", "judged when it was created"},
	{"POST", "/exec/*/resize", pass, "", "a terminal's size"},
	{"POST", "/containers/*/stop", pass, "", "ends things"},
	{"POST", "/containers/*/kill", pass, "", "ends things"},
	{"POST", "/containers/*/pause", pass, "", "stops things"},
	{"POST", "/containers/*/unpause", pass, "", "goes on with what was judged"},
	{"POST", "/containers/*/wait", pass, "", "waits"},
	{"POST", "/containers/*/resize", pass, "", "a terminal's size"},
	{"POST", "/containers/*/attach", pass, "", "talks to what was judged"},
	{"POST", "/containers/*/rename", pass, "", "a name is an alias"},
	{"POST", "/containers/*/copy", pass, "", "reads (API before 1.24)"},
	{"POST", "/containers/*/checkpoints", pass, "", "saves; a start from it is refused"},
	{"DELETE", "/containers/*/checkpoints/*", pass, "", "removes"},
	{"PUT", "/containers/*/archive", pass, "", "what it writes into a container is drift, guarded at run time"},
	{"POST", "/containers/*/logs/clear", pass, "", "removes logs"},
	{"POST", "/containers/prune", pass, "", "removes"},
	{"DELETE", "/containers/*", pass, "", "removes"},

	{"POST", "/commit", pass, "", "the new image has a digest of its own, unscanned"},
	{"POST DELETE PUT", "/images/**", pass, "", "content is judged by its digest when it is to run"},
	{"POST", "/build/prune", pass, "", "removes"},
	{"POST", "/build/cancel", pass, "", "ends a build"},
	{"POST", "/session", pass, "", "the client's side of a build"},
	{"POST", "/auth", pass, "", "asks a registry"},
	{"POST DELETE PUT", "/volumes/**", pass, "", "judged when it is mounted"},
	{"POST DELETE", "/networks/**", pass, "", "connections are judged at run time"},
	{"POST DELETE", "/secrets/**", pass, "", "data of services"},
	{"POST DELETE", "/configs/**", pass, "", "data of services"},
	{"POST DELETE", "/nodes/**", pass, "", "members of a swarm"},
	{"DELETE", "/services/*", pass, "", "removes"},
	{"POST", "/swarm/leave", pass, "", "ends things"},
	{"POST", "/swarm/update", pass, "", "a swarm's settings"},
	{"POST", "/swarm/unlock", pass, "", "opens an existing swarm"},

	{"POST", "/swarm/init", refuse, "swarm", "the engine starts a swarm's containers by itself, past every gate"},
	{"POST", "/swarm/join", refuse, "swarm", "the engine starts a swarm's containers by itself, past every gate"},
	{"POST", "/services/create", refuse, "swarm", "the engine starts a service's containers by itself, past every gate"},
	{"POST", "/services/*/update", refuse, "swarm", "the engine starts a service's containers by itself, past every gate"},

	{"POST", "/plugins/*/disable", pass, "", "ends things"},
	{"POST", "/plugins/**", refuse, "plugins", "engine plugins run with privileges that no policy describes"},
	{"DELETE", "/plugins/**", pass, "", "removes"},
}

// Classes are the kinds of calls that the gate refuses unless the
// administrator allows them.
func Classes() []string { return []string{"plugins", "swarm"} }

// call is one understood call to the engine.
type call struct {
	endpoint
	query   url.Values
	version string // as in the path: "1.41"; "" when none
	id      string // the container, where the path names one
}

// parseCall understands a call by method and request URI, as the engine's
// router does. An error means: refuse it.
func parseCall(method, uri string) (call, error) {
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return call{}, fmt.Errorf("request URI: %w", err)
	}
	if isRead(method) {
		return call{endpoint: endpoint{treat: pass, why: "reads"}}, nil
	}
	name := u.Path
	if path.Clean(name) != name || strings.ContainsAny(name, "\\\x00") {
		return call{}, fmt.Errorf("path %q is not in its plain form", name)
	}
	// What one decoder drops another may read: engines of before 2022 take ; for &.
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return call{}, fmt.Errorf("parameters of the URI: %w", err)
	}
	name, version := cutVersion(name)
	for _, e := range endpoints {
		id, ok := e.matches(method, name)
		if ok {
			return call{endpoint: e, query: query, version: version, id: id}, nil
		}
	}
	return call{}, fmt.Errorf("%s %s is no call that this version of Breakwater knows", method, name)
}

func isRead(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// cutVersion takes the API version off a path: /v1.41/info → /info, 1.41.
func cutVersion(name string) (rest, version string) {
	v, rest, found := strings.Cut(strings.TrimPrefix(name, "/v"), "/")
	if !strings.HasPrefix(name, "/v") || !found || v == "" || strings.Trim(v, "0123456789.") != "" {
		return name, ""
	}
	return "/" + rest, v
}

func (e endpoint) matches(method, name string) (id string, ok bool) {
	known := false
	for m := range strings.FieldsSeq(e.methods) {
		known = known || m == method
	}
	if !known {
		return "", false
	}
	want := strings.Split(e.path[1:], "/")
	have := strings.Split(strings.TrimPrefix(name, "/"), "/")
	for i, w := range want {
		switch {
		case i >= len(have) || have[i] == "":
			return "", false
		case w == "**":
			return "", true
		case w == "*":
			id = have[i]
		case w != have[i]:
			return "", false
		}
	}
	return id, len(want) == len(have)
}

// before says whether the call's API version is older than major.minor.
func (c call) before(major, minor int) bool {
	if c.version == "" {
		return false
	}
	a, b, _ := strings.Cut(c.version, ".")
	x, errX := strconv.Atoi(a)
	y, errY := strconv.Atoi(b)
	if errX != nil || errY != nil {
		return true
	}
	return x < major || x == major && y < minor
}
