package vuln

import (
	"fmt"
	"slices"
)

// Affects says whether the version is one that the advisory means and, if so,
// the lowest version of that range in which it is fixed ("" when there is
// none). The algorithm is the evaluation of the OSV schema; unsorted events are
// sorted by the ecosystem's order. An error names a version that the order
// cannot place: then nothing is known about that version.
func (a *Affected) Affects(order Order, version string) (hit bool, fixed string, err error) {
	if _, err := order(version, version); err != nil {
		return slices.Contains(a.Versions, version), "", err
	}
	var bad error
	for _, r := range a.Ranges {
		in, until, err := r.holds(order, version)
		if err != nil {
			bad = err // a malformed range hides no other one
			continue
		}
		if in {
			hit, fixed = true, lower(order, fixed, until)
		}
	}
	if hit {
		return true, fixed, nil
	}
	for _, v := range a.Versions {
		if c, err := order(v, version); v == version || err == nil && c == 0 {
			return true, a.fixedAbove(order, version), nil
		}
	}
	return false, "", bad
}

// Check returns an error when an event of a range has no place in the order:
// such a range says nothing about any version.
func (a *Affected) Check(order Order) error {
	for _, r := range a.Ranges {
		for _, p := range r.Events {
			if p.Introduced == "0" || p.Limit == "*" {
				continue
			}
			if _, err := order(p.version(), p.version()); err != nil {
				return fmt.Errorf("%s: %w", a.Name, err)
			}
		}
	}
	return nil
}

// holds evaluates one range. until is the first fix above the version.
func (r Range) holds(order Order, version string) (in bool, until string, err error) {
	points, err := sorted(order, r.Events)
	if err != nil {
		return false, "", err
	}
	for _, p := range points {
		c := before // "0" is before every version
		if p.Introduced != "0" && p.Limit != "*" {
			if c, err = order(version, p.version()); err != nil {
				return false, "", err
			}
		}
		switch {
		case p.Introduced != "":
			in = in || c >= 0
		case p.Fixed != "" && c >= 0, p.LastAffected != "" && c > 0:
			in = false
		case p.Fixed != "" && in && until == "":
			until = p.Fixed
		}
	}
	return in && withinLimits(order, r.Events, version), until, nil
}

// before is what comparing any version with the beginning gives.
const before = 1

// withinLimits: a version is below at least one limit, if there are limits.
func withinLimits(order Order, points []Point, version string) bool {
	limited := false
	for _, p := range points {
		if p.Limit == "" {
			continue
		}
		if p.Limit == "*" {
			return true
		}
		if c, err := order(version, p.Limit); err == nil && c < 0 {
			return true
		}
		limited = true
	}
	return !limited
}

// sorted returns the points by version; at one version a fix comes before an
// introduction, as an interval ends before the next begins.
func sorted(order Order, points []Point) ([]Point, error) {
	less := func(a, b Point) (int, error) {
		switch az, bz := a.Introduced == "0", b.Introduced == "0"; {
		case az && bz:
			return 0, nil
		case az:
			return -1, nil
		case bz:
			return 1, nil
		case a.Limit == "*" || b.Limit == "*":
			return 0, nil
		}
		c, err := order(a.version(), b.version())
		if c == 0 && err == nil && a.Introduced != "" && b.Introduced == "" {
			return 1, nil
		}
		if c == 0 && err == nil && a.Introduced == "" && b.Introduced != "" {
			return -1, nil
		}
		return c, err
	}
	out := slices.Clone(points)
	var bad error
	slices.SortStableFunc(out, func(a, b Point) int {
		c, err := less(a, b)
		if err != nil {
			bad = err
		}
		return c
	})
	return out, bad
}

// fixedAbove is the lowest fix above the version in any range.
func (a *Affected) fixedAbove(order Order, version string) string {
	best := ""
	for _, r := range a.Ranges {
		for _, p := range r.Events {
			if p.Fixed == "" {
				continue
			}
			if c, err := order(p.Fixed, version); err == nil && c > 0 {
				best = lower(order, best, p.Fixed)
			}
		}
	}
	return best
}

// lower of two versions, either of which may be empty.
func lower(order Order, a, b string) string {
	if a == "" {
		return b
	}
	if b == "" {
		return a
	}
	if c, err := order(b, a); err == nil && c < 0 {
		return b
	}
	return a
}
