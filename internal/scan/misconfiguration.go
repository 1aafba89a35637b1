package scan

import (
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/check"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// checks are loaded once: they never change.
var checks = sync.OnceValues(func() (*check.Checks, error) { return check.Load(content.Checks()) })

// addMisconfigurations judges the image's own configuration.
func addMisconfigurations(rep *report.Report, c *image.Config) error {
	all, err := checks()
	if err != nil {
		return err
	}
	view := check.Image{
		User: c.Config.User, Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd, Labels: c.Config.Labels, WorkingDir: c.Config.WorkingDir,
		ExposedPorts: keys(c.Config.ExposedPorts), Volumes: keys(c.Config.Volumes), StopSignal: c.Config.StopSignal, OnBuild: c.Config.OnBuild,
		History: c.Steps(), References: rep.Image.References,
	}
	if test := c.Config.Healthcheck.Test; len(test) > 0 {
		view.Healthcheck = test[0] != "NONE"
	}
	for _, v := range c.Config.Env {
		name, value, _ := strings.Cut(v, "=")
		view.Env = append(view.Env, check.EnvVariable{Name: name, Value: value})
	}
	res := all.Image(view)
	rep.Misconfigurations = append(rep.Misconfigurations, res.Found...)
	rep.Gaps = append(rep.Gaps, res.Gaps...)
	rep.Looked = append(rep.Looked, event.LookedMisconfigurations)
	return nil
}
