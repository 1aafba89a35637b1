package trivydb

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/vuln"
)

const maxConstraints = 10_000

// Ranges turns the constraints of other scanners' databases into ranges:
// alternatives are elements or joined by "||", conditions by "," or spaces
// (">=1.0, <1.2", "=1.5", "<2").
func Ranges(vulnerable []string) (out []vuln.Range, err error) {
	for part, err := range alternatives(vulnerable) {
		if err != nil {
			return nil, err
		}
		r, err := constraint(part)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// alternatives goes through the parts of which one has to hold.
func alternatives(list []string) func(func(string, error) bool) {
	return func(yield func(string, error) bool) {
		n := 0
		for _, text := range list {
			for part := range strings.SplitSeq(text, "||") {
				if strings.TrimSpace(part) == "" {
					continue
				}
				if n++; n > maxConstraints {
					yield("", errors.New("too many constraints"))
					return
				}
				if !yield(part, nil) {
					return
				}
			}
		}
	}
}

type condition struct{ op, version string }

func split(part string) ([]condition, error) {
	var out []condition
	fields := strings.FieldsFunc(part, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' })
	for i := 0; i < len(fields); i++ {
		text := fields[i]
		version := strings.TrimLeft(text, "<>=~^!")
		op := text[:len(text)-len(version)]
		if version == "" && i+1 < len(fields) { // ">= 1.0"
			i++
			version = fields[i]
		}
		if version == "" || len(version) > 200 || !printable(version) || strings.ContainsAny(version, "<>=|") {
			return nil, fmt.Errorf("constraint %q is not understood", clip(part))
		}
		out = append(out, condition{op, version})
	}
	return out, nil
}

func constraint(part string) (vuln.Range, error) {
	conditions, err := split(part)
	if err != nil || len(conditions) == 0 {
		return vuln.Range{}, errors.Join(err, errors.New("an empty constraint"))
	}
	from, end := vuln.Point{Introduced: "0"}, vuln.Point{}
	for _, c := range conditions {
		switch c.op {
		case ">=":
			from.Introduced = c.version
		case ">": // the version itself is not meant, which a range cannot say: what follows it is
			from.Introduced = c.version
		case "<":
			end = vuln.Point{Fixed: c.version}
		case "<=":
			end = vuln.Point{LastAffected: c.version}
		case "", "=", "==":
			from.Introduced, end = c.version, vuln.Point{LastAffected: c.version}
		default:
			return vuln.Range{}, fmt.Errorf("constraint %q: %q is not understood", clip(part), c.op)
		}
	}
	events := []vuln.Point{from}
	if end != (vuln.Point{}) {
		events = append(events, end)
	}
	return vuln.Range{Events: events}, nil
}

// span is what one constraint allows; "" is no bound. That "<= 1.2" allows 1.2
// itself cannot be told by a range that begins there: the version counts as
// vulnerable, as the one that ">" names does.
type span struct {
	low, high string
	after     bool // low itself is outside
}

// Outside gives the ranges of the versions that none of the constraints allows:
// how databases of RubyGems write what is vulnerable, by what is not (">= 1.5.4",
// "~> 2.0.9, >= 2.0.9.1", "< 1.4").
func Outside(order vuln.Order, safe []string) ([]vuln.Range, error) {
	spans, err := spansOf(order, safe)
	if err != nil || len(spans) == 0 {
		return nil, err
	}
	var out []vuln.Range
	from := "" // what follows is not known to be safe yet
	for _, s := range spans {
		if gap, ok := gapBefore(order, from, s); ok {
			out = append(out, gap)
		}
		if s.high == "" {
			return out, nil
		}
		if from == "" || before(order, from, s.high) {
			from = s.high
		}
	}
	return append(out, vuln.Range{Events: []vuln.Point{{Introduced: from}}}), nil
}

// spansOf reads constraints, sorted by where they begin.
func spansOf(order vuln.Order, safe []string) (spans []span, err error) {
	for part, err := range alternatives(safe) {
		if err != nil {
			return nil, err
		}
		s, err := spanOf(order, part)
		if err != nil {
			return nil, err
		}
		spans = append(spans, s)
	}
	slices.SortStableFunc(spans, func(a, b span) int {
		switch {
		case a.low == b.low:
			return 0
		case a.low == "" || b.low != "" && before(order, a.low, b.low):
			return -1
		}
		return 1
	})
	return spans, nil
}

// gapBefore is what lies between a version and the beginning of a span.
func gapBefore(order vuln.Order, from string, s span) (vuln.Range, bool) {
	if s.low == "" || from != "" && !before(order, from, s.low) && !(s.after && from == s.low) {
		return vuln.Range{}, false
	}
	end := vuln.Point{Fixed: s.low}
	if s.after {
		end = vuln.Point{LastAffected: s.low}
	}
	if from == "" {
		from = "0"
	}
	return vuln.Range{Events: []vuln.Point{{Introduced: from}, end}}, true
}

// spanOf reads one constraint: all of its conditions hold.
func spanOf(order vuln.Order, part string) (s span, err error) {
	conditions, err := split(part)
	if err != nil || len(conditions) == 0 {
		return s, errors.Join(err, errors.New("an empty constraint"))
	}
	for _, c := range conditions {
		if _, err := order(c.version, c.version); err != nil {
			return s, fmt.Errorf("constraint %q: %w", clip(part), err)
		}
		switch c.op {
		case ">=", ">", "~>":
			if s.low == "" || before(order, s.low, c.version) {
				s.low, s.after = c.version, c.op == ">"
			}
			if c.op == "~>" {
				s.lower(order, next(c.version))
			}
		case "<", "<=":
			s.lower(order, c.version)
		case "", "=", "==":
			s.low, s.high = c.version, c.version
		default:
			return s, fmt.Errorf("constraint %q: %q is not understood", clip(part), c.op)
		}
	}
	return s, nil
}

func (s *span) lower(order vuln.Order, high string) {
	if s.high == "" || before(order, high, s.high) {
		s.high = high
	}
}

// next is where "~> version" ends: ~> 2.0.9 before 2.1, ~> 3 before 4.
func next(version string) string {
	var numbers []int
	for field := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(field)
		if err != nil {
			break
		}
		numbers = append(numbers, n)
	}
	if len(numbers) > 1 {
		numbers = numbers[:len(numbers)-1]
	}
	if len(numbers) == 0 {
		return version
	}
	numbers[len(numbers)-1]++
	fields := make([]string, len(numbers))
	for i, n := range numbers {
		fields[i] = strconv.Itoa(n)
	}
	return strings.Join(fields, ".")
}

// before is whether a is older than b; of what has no order nothing is.
func before(order vuln.Order, a, b string) bool {
	c, err := order(a, b)
	return err == nil && c < 0
}

func clip(s string) string { return s[:min(len(s), 80)] }
