package detect

import (
	"errors"
	"strconv"
	"strings"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// Except is the exception that is as tight as what an incident saw. byContainer
// holds it to the container's name, else it is held to the repository of its image.
func Except(inc event.Incident, byContainer bool) (api.Exception, error) {
	if inc.Container == nil || inc.Event.Process == nil {
		return api.Exception{}, errors.New("only what a process of a container did can be excepted: an exception of a policy speaks of images and starts")
	}
	x := like(inc.Detection, inc.Decision, inc.Event)
	c := *inc.Container
	x.Container, x.Image = c.Name, repository(c.Image.Name())
	switch {
	case byContainer && x.Container == "":
		return x, errors.New("the container has no name that is known: except its image")
	case !byContainer && x.Image == "":
		return x, errors.New("the image has no name that is known: except the container by its name")
	case byContainer:
		x.Image = ""
	default:
		x.Container = ""
	}
	return x, nil
}

// Covers says whether an exception is about an event that a detection, or policy by
// a decision, is about to tell of.
func Covers(x api.Exception, detection string, d event.Decision, ev event.Event) bool {
	c := orEmpty(ev.Container)
	if x.Container == "" && x.Image == "" || x.Container != "" && x.Container != c.Name || x.Image != "" && x.Image != repository(c.Image.Name()) {
		return false
	}
	seen := like(detection, d, ev)
	return x.Detection == seen.Detection && x.Program == seen.Program && x.Comm == seen.Comm && x.Parent == seen.Parent && x.Target == seen.Target
}

// like is all but the container.
func like(detection string, d event.Decision, ev event.Event) api.Exception {
	if detection == "" {
		detection = "policy." + string(d.Control)
	}
	p := orEmpty(ev.Process)
	return api.Exception{Detection: detection, Program: p.Path, Comm: p.Comm, Parent: p.ParentPath, Target: target(ev)}
}

// target is what an act was done to, in one line.
func target(ev event.Event) string {
	switch {
	case ev.Exec != nil && ev.Exec.Script != "":
		return ev.Exec.Path + " " + ev.Exec.Script
	case ev.Exec != nil:
		return ev.Exec.Path
	case ev.File != nil && ev.File.Write:
		return "write " + ev.File.Path
	case ev.File != nil:
		return "read " + ev.File.Path
	case ev.Kind == event.KindListen && ev.Network != nil:
		return "port " + strconv.Itoa(ev.Network.Port)
	case ev.Network != nil:
		return strings.TrimSpace(ev.Network.Transport + " " + peer(ev.Network))
	case ev.DNS != nil:
		return strings.TrimSpace(ev.DNS.Type + " " + ev.DNS.Name)
	case ev.Privilege != nil:
		return strings.Join(strings.Fields(ev.Privilege.Call+" "+ev.Privilege.Capability+" "+ev.Privilege.Device), " ")
	}
	return string(ev.Kind)
}

// repository is an image's reference without its tag and digest.
func repository(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		name = name[:at]
	}
	if name == "sha256" {
		return ""
	}
	return name
}
