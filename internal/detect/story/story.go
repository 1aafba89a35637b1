// Package story joins incidents that belong together: acts of one process tree in
// one container, each within Window of the one before, are one story with a
// severity that rises and one sentence.
//
// Joining never holds an incident back that something is to be done about, and
// never loses one: where an agent forgets (its file was lost, too many stories are
// open), another story begins.
package story

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// The bounds of stories.
const (
	// Window is how long after its last act a story goes on with the next one.
	Window = 10 * time.Minute

	maxOpen    = 1024 // stories
	maxMembers = 256  // processes of a story that are remembered
	maxSteps   = 256  // incidents; then another story begins
	// maxAlike is how many incidents of one detection with one outcome a story
	// tells one by one; further ones are told when their number has ten times as
	// many, as those that are the same in all.
	maxAlike = 50
)

// Keeper keeps the open stories. It is safe for concurrent use.
type Keeper struct {
	mu    sync.Mutex
	open  map[string]*state // by key
	file  *file
	wrong error
}

// state is one open story, as it lies in the file.
type state struct {
	Story     event.Story       `json:"story"`
	Container string            `json:"container"`
	Last      time.Time         `json:"last"`
	Members   []string          `json:"members"` // ids of processes
	Joined    int               `json:"joined"`  // steps given out
	Done      map[int]bool      `json:"done"`    // finished steps, and whether they were stopped
	Alike     map[string]uint64 `json:"alike"`   // acts by what they are
	Titles    []title           `json:"titles"`
	Where     string            `json:"where"`
	Root      string            `json:"root"`
	Worst     event.Severity    `json:"worst"`
}

// title is a kind of act of a story, in the order of their first.
type title struct {
	Text     string `json:"text"`
	Times    int    `json:"times"`
	Happened int    `json:"happened"` // of them neither prevented nor killed
}

// Open takes up the stories that an earlier agent left in a file. The error says
// what of it is lost; the keeper works all the same.
func Open(path string) (*Keeper, error) {
	k := &Keeper{open: map[string]*state{}}
	var err error
	k.file, err = openFile(path, func(s *state) { k.open[s.Story.Key] = s })
	return k, err
}

// Close ends writing.
func (k *Keeper) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.file.close()
}

// Err says why stories do not outlive the agent, nil when they do.
func (k *Keeper) Err() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wrong
}

// Join makes an incident a step of its story. tell is false for one that is like
// many that the story told already; it is counted. An incident of no process
// belongs to no story.
func (k *Keeper) Join(inc *event.Incident) (tell bool) {
	ids := family(*inc)
	if len(ids) == 0 {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.find(*inc, ids)
	if s == nil {
		s = k.begin(*inc)
	}
	if inc.Time.After(s.Last) || s.Last.Sub(inc.Time) > Window { // a clock that went back
		s.Last = inc.Time
	}
	s.remember(ids)
	what := cmp.Or(inc.Detection, string(inc.Decision.Control)) + " " + string(inc.Decision.Outcome)
	s.Alike[what]++
	if n := s.Alike[what]; n > maxAlike && !milestone(n) && !toDo(inc.Decision) {
		s.Story.Counted++
		return false
	}
	s.Joined++
	inc.Story = &event.Story{Key: s.Story.Key, Step: s.Joined, Started: s.Story.Started}
	k.keep(s)
	return true
}

// Finish writes into an incident how its story stands with it: to be called when
// it is known what became of the act. It may be called again for the same one.
func (k *Keeper) Finish(inc *event.Incident) {
	if inc.Story == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.open[inc.Story.Key]
	if s == nil { // of an earlier agent, whose file is lost, or closed meanwhile
		s = k.begin(*inc)
		delete(k.open, inc.Key)
		s.Story.Key, s.Story.Started = inc.Story.Key, inc.Story.Started
		s.Joined = inc.Story.Step
		s.Story.Revision = uint64(inc.Story.Step) << 20 // above what was said before
		k.open[s.Story.Key] = s
	}
	s.finished(*inc)
	told := s.Story
	told.Step, told.Tactics = inc.Story.Step, slices.Clone(s.Story.Tactics)
	inc.Story = &told
	k.keep(s)
}

// find returns the open story that has a process of the incident's tree.
func (k *Keeper) find(inc event.Incident, ids []string) *state {
	var found *state
	for _, s := range k.open {
		if apart := inc.Time.Sub(s.Last); s.Container != container(inc) || apart > Window || apart < -Window || s.Joined >= maxSteps {
			continue
		}
		if slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(s.Members, id) }) && (found == nil || s.Last.After(found.Last)) {
			found = s
		}
	}
	return found
}

// begin opens a story; the one that is silent for longest is closed for it.
func (k *Keeper) begin(inc event.Incident) *state {
	for key, s := range k.open {
		if inc.Time.Sub(s.Last) > Window {
			delete(k.open, key)
		}
	}
	if len(k.open) >= maxOpen {
		oldest := ""
		for key, s := range k.open {
			if oldest == "" || s.Last.Before(k.open[oldest].Last) {
				oldest = key
			}
		}
		delete(k.open, oldest)
	}
	s := &state{Story: event.Story{Key: inc.Key, Started: inc.Time}, Container: container(inc), Last: inc.Time,
		Done: map[int]bool{}, Alike: map[string]uint64{}, Root: root(inc)}
	k.open[inc.Key] = s
	return s
}

func (k *Keeper) keep(s *state) {
	k.wrong = k.file.add(s, k.open)
}

// remember keeps the processes of the story; the first one, which all may come
// from, stays longest.
func (s *state) remember(ids []string) {
	for _, id := range ids {
		if !slices.Contains(s.Members, id) {
			s.Members = append(s.Members, id)
		}
	}
	if n := len(s.Members); n > maxMembers {
		s.Members = slices.Delete(s.Members, 1, 1+n-maxMembers)
	}
}

// finished takes up what became of a step.
func (s *state) finished(inc event.Incident) {
	step, stopped := inc.Story.Step, Stopped(inc.Decision)
	s.Joined = max(s.Joined, step)
	if _, again := s.Done[step]; !again {
		s.Done[step] = stopped
		at := slices.IndexFunc(s.Titles, func(t title) bool { return t.Text == inc.Title })
		if at < 0 {
			at, s.Titles = len(s.Titles), append(s.Titles, title{Text: inc.Title})
		}
		s.Titles[at].Times++
		s.Story.Steps++
		if stopped {
			s.Story.Stopped++
		} else {
			s.Titles[at].Happened++
		}
	}
	if inc.Severity.Rank() > s.Worst.Rank() {
		s.Worst = inc.Severity
	}
	s.Where = where(inc)
	s.Story.Revision++
	s.Story.Tactics = inOrder(s.Story.Tactics, inc.Attack)
	if risen := s.risen(); risen.Rank() > s.Story.Severity.Rank() {
		s.Story.Severity = risen
	}
	s.Story.Sentence = s.sentence(inc)
}

// risen is the worst severity, and one more where acts of medium or worse belong
// to a story of three or more tactics: together they are an attack.
func (s *state) risen() event.Severity {
	if len(s.Story.Tactics) < 3 {
		return s.Worst
	}
	switch s.Worst {
	case event.SeverityMedium:
		return event.SeverityHigh
	case event.SeverityHigh:
		return event.SeverityCritical
	}
	return s.Worst
}

// maxTitles is how many kinds of acts a sentence names.
const maxTitles = 4

func (s *state) sentence(inc event.Incident) string {
	if s.Story.Steps == 1 && s.Story.Counted == 0 {
		return inc.Sentence
	}
	var named []string
	for _, t := range s.Titles[:min(len(s.Titles), maxTitles)] {
		text := lower(t.Text)
		if t.Times > 1 {
			text += fmt.Sprintf(" (%d times)", t.Times)
		}
		named = append(named, text)
	}
	if more := len(s.Titles) - maxTitles; more > 0 {
		named = append(named, fmt.Sprintf("%d more", more))
	}
	text := fmt.Sprintf("Processes below %s in %s did %d things within %s: %s", s.Root, s.Where, s.Story.Steps, took(s.Last.Sub(s.Story.Started)), strings.Join(named, ", "))
	if s.Story.Counted > 0 {
		text += fmt.Sprintf(", and %d more like these", s.Story.Counted)
	}
	return text + "; " + s.advice() + "."
}

// advice is what came of it and what to do about it.
func (s *state) advice() string {
	var happened []string
	for _, t := range s.Titles {
		if t.Happened > 0 {
			happened = append(happened, lower(t.Text))
		}
	}
	severe := s.Story.Severity.Rank() >= event.SeverityMedium.Rank()
	switch {
	case len(happened) == 0:
		return "Breakwater stopped all of it: see at the first step how somebody came in, and replace the container"
	case s.Story.Stopped > 0:
		return fmt.Sprintf("Breakwater stopped %d of them, but %s happened: replace the container", s.Story.Stopped, happened[0])
	case severe:
		return "nothing of it was stopped: find out who did it, and replace the container if nobody was meant to"
	}
	return "it was recorded: nothing is to be done if somebody was meant to work there"
}

// Stopped says whether what was decided on had no effect, or was ended.
func Stopped(d event.Decision) bool {
	return d.Outcome == event.Prevented || d.Outcome == event.Killed
}

// toDo says whether the agent is still to act on a decision.
func toDo(d event.Decision) bool {
	return !d.Audit && (d.Outcome == event.Detected && d.Effect.Rank() > event.EffectAlert.Rank() || d.Effect.Rank() > event.EffectKill.Rank())
}

func milestone(n uint64) bool {
	for n > 1 && n%10 == 0 {
		n /= 10
	}
	return n == 1
}

func container(inc event.Incident) string {
	if inc.Container == nil {
		return ""
	}
	return inc.Container.ID
}

// family are the ids of the process and its ancestors.
func family(inc event.Incident) []string {
	var ids []string
	add := func(id string) {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for _, p := range inc.Tree {
		add(p.ID)
	}
	if p := inc.Event.Process; p != nil {
		add(p.ParentID)
		add(p.ID)
	}
	return ids
}

func root(inc event.Incident) string {
	p := event.Process{}
	if inc.Event.Process != nil {
		p = *inc.Event.Process
	}
	if len(inc.Tree) > 0 {
		p = inc.Tree[0]
	}
	return detect.Quote(cmp.Or(p.Path, p.Comm), "a process")
}

func where(inc event.Incident) string {
	if inc.Container == nil {
		return "this host"
	}
	return detect.Quote(cmp.Or(inc.Container.Name, inc.Container.ID[:min(len(inc.Container.ID), 12)]), "a container")
}

// lower begins a title as a part of a sentence, unless it begins with a name.
func lower(text string) string {
	if len(text) > 1 && text[1] >= 'a' && text[1] <= 'z' {
		return strings.ToLower(text[:1]) + text[1:]
	}
	return text
}

// took says how long something lasted.
func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return "a second"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Round(time.Second).Seconds()))
	}
	return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
}
