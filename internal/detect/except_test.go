package detect_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// TestExceptionsAreAsTightAsWhatWasSeen: the same act is covered, under another tag
// of the image too; whatever differs otherwise is not.
func TestExceptionsAreAsTightAsWhatWasSeen(t *testing.T) {
	act := func(change func(*event.Incident)) event.Incident {
		c := &event.Container{ID: "c0ffee", Name: "web-1", Image: event.Image{References: []string{"registry.example:5000/shop/web:1.4"}}}
		inc := event.Incident{Detection: "network-tool", Container: c, Event: event.Event{Kind: event.KindExec, Container: c,
			Process: &event.Process{Path: "/bin/busybox", Comm: "nc", ParentPath: "/bin/sh"}, Exec: &event.Exec{Path: "/bin/busybox"}}}
		if change != nil {
			change(&inc)
		}
		return inc
	}
	for _, byContainer := range []bool{false, true} {
		x, err := detect.Except(act(nil), byContainer)
		if err != nil || (x.Image == "") != byContainer || (x.Container == "") == byContainer {
			t.Fatalf("%+v %v", x, err)
		}
		covers := func(inc event.Incident) bool { return detect.Covers(x, inc.Detection, inc.Decision, inc.Event) }
		if !covers(act(nil)) {
			t.Errorf("%+v does not cover what it was made of", x)
		}
		newer := act(func(i *event.Incident) { i.Container.Image.References[0] = "registry.example:5000/shop/web@sha256:00" })
		if !covers(newer) {
			t.Errorf("%+v does not cover a newer image", x)
		}
		for name, change := range map[string]func(*event.Incident){
			"detection": func(i *event.Incident) { i.Detection = "file-transfer" },
			"policy":    func(i *event.Incident) { i.Detection, i.Decision.Control = "", event.ControlExec },
			"program":   func(i *event.Incident) { i.Event.Process.Path = "/tmp/busybox" },
			"name":      func(i *event.Incident) { i.Event.Process.Comm = "wget" },
			"parent":    func(i *event.Incident) { i.Event.Process.ParentPath = "/usr/sbin/nginx" },
			"target":    func(i *event.Incident) { i.Event.Exec.Path = "/tmp/busybox" },
			"script":    func(i *event.Incident) { i.Event.Exec.Script = "/tmp/x" },
			"container": func(i *event.Incident) { i.Container.Name, i.Container.Image.References[0] = "db-1", "shop/db" },
			"unknown":   func(i *event.Incident) { *i.Container = event.Container{ID: "c0ffee"} },
		} {
			if covers(act(change)) {
				t.Errorf("%+v covers another %s", x, name)
			}
		}
	}
	if _, err := detect.Except(event.Incident{}, false); err == nil {
		t.Error("a start is excepted")
	}
	if _, err := detect.Except(act(func(i *event.Incident) { i.Container.Image.References = nil }), false); err == nil {
		t.Error("an image without a name is excepted")
	}
}
