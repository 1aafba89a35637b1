package detect

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// Where is a condition over events, in the words of detections. It never changes.
type Where struct{ when *condition.Condition } // nil: all events

// MaxWhere is the longest text of a Where, in bytes.
const MaxWhere = 16 << 10

// ParseWhere reads a condition as detections have in `when`; "" holds for all.
func ParseWhere(text string) (*Where, error) {
	if text == "" {
		return &Where{}, nil
	}
	if len(text) > MaxWhere {
		return nil, fmt.Errorf("the condition has %d bytes, at most %d are read", len(text), MaxWhere)
	}
	env, err := newEnv(condition.Budget{Cost: maxRuleCost})
	if err != nil {
		return nil, err
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		return nil, err
	}
	docs, err := document.Parse("where", quoted)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, errors.New("where: not one condition")
	}
	reader := document.NewReader("where")
	w := &Where{when: env.Compile(reader.Value(docs[0]))}
	return w, reader.Err()
}

// Matches says whether the condition holds for an event; what has no answer (a
// fact that is absent, too much work) does not.
func (w *Where) Matches(ev event.Event) bool {
	if w.when == nil {
		return true
	}
	holds, err := w.when.Eval(variables(ev))
	return err == nil && holds
}

// LoadText reads one document of detections that nobody here tried, within the
// bounds of LoadRight; what is wrong is told with its place.
func LoadText(name string, text []byte) (*Rules, error) {
	env, err := newEnv(condition.Budget{Cost: maxRuleCost, Text: maxText, Items: maxItems})
	if err != nil {
		return nil, err
	}
	rules := &Rules{byID: map[string]*Rule{}, byKind: map[event.Kind]*kindRules{}, cost: map[event.Kind]uint64{}}
	return rules, rules.add(env, name, text)
}

// Replay returns a function that lists the detections which fire on an event,
// whatever policy says of them. Those that count do so over the events that it is
// given, which are to come in their order; it is safe for concurrent use.
func (rs *Rules) Replay() func(ev event.Event) []*Rule {
	counts := newCounts()
	return func(ev event.Event) []*Rule {
		var fired []*Rule
		for _, r := range rs.byKind[ev.Kind].asked(ev) {
			holds, err := r.when.Eval(variables(ev))
			if err == nil && holds && (r.Count == nil || counts.reached(r, ev)) {
				fired = append(fired, r)
			}
		}
		return fired
	}
}

// Tell is what the detection would say of an event.
func (r *Rule) Tell(ev event.Event) string { return r.sentence.fill(ev) + "." }
