package inventory

import "github.com/breakwater-sec/breakwater/internal/event"

// Place gives a package of a distribution its ecosystem and purl, by the named
// driver ("dpkg.Driver"); false when there is none of that name.
func (e *Engine) Place(driver string, p *event.Package, d Distro) bool {
	placer, ok := e.driver(driver).(Placer)
	if ok {
		placer.Place(p, d)
	}
	return ok
}
