package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/agent"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/journal"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/web"
)

func newEventsCommand(env *environment) *cobra.Command {
	var h huntFlags
	var where string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Look back at events of all hosts, or follow them",
		Long: `Looks through the events that agents keep on their hosts, newest last: what was
executed, opened, connected to, asked for, in every container, whether or not it
was an incident. Each agent keeps as much as its --events-size holds; what it had
to drop is told.

--where is a condition in CEL over one event, in the words of detections
(docs/detections.md):

  breakwater events --since 1h --where 'exec.path == "/usr/bin/curl" && container.name == "web"'
  breakwater events --follow --where 'kind == "connect" && network.port == 4444'

Without --server, on the server's own host, all agents are asked through it;
--local reads this host's own store without server or agent, which takes root.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return h.hunt(cmd.Context(), env, where, nil)
		},
	}
	h.add(cmd)
	cmd.Flags().StringVar(&where, "where", "", "a `condition` in CEL that events have to meet (default: all)")
	cmd.Flags().BoolVar(&h.follow, "follow", false, "go on with what is seen from now on, until Ctrl-C; without --since nothing before")
	return cmd
}

// huntFlags say which events are looked at, and how they are shown.
type huntFlags struct {
	client        clientFlags
	agent         string
	since, format string
	limit         int
	local, follow bool
}

func (h *huntFlags) add(cmd *cobra.Command) {
	h.client.add(cmd)
	cmd.Flags().StringVar(&h.agent, "agent", "", "only this agent's, by its `id`")
	cmd.Flags().StringVar(&h.since, "since", "", "how far back: 90m, 24h, 7d (default: all that is kept)")
	cmd.Flags().IntVar(&h.limit, "limit", 0, "end after so many of each agent (default: none)")
	cmd.Flags().BoolVar(&h.local, "local", false, "read the store of this host's agent, in the data folder")
	cmd.Flags().StringVar(&h.format, "format", "table", "table or json (one event a line)")
}

// line is one line of an answer: a found event, or how an answer ended.
type line struct {
	Agent, Host string
	*api.Found
	Seen  *api.Seen
	Error string
}

// hunt asks and shows what is found. A part of an answer that is missing is said
// on standard error, and leads to exit code 3 when all of it is.
func (h *huntFlags) hunt(ctx context.Context, env *environment, where string, detections []byte) (err error) {
	if err := tableOrJSON(h.format); err != nil {
		return err
	}
	if h.limit < 0 {
		return usage("--limit=%d: want a number above 0", h.limit)
	}
	if h.follow && h.since == "" {
		h.since = "0s"
	}
	since, err := web.Since(h.since, time.Now())
	if err != nil {
		return usage("--%v", err)
	}
	match, err := agent.Matcher(where, detections)
	if err != nil {
		return usage("%v", err)
	}
	out := bufio.NewWriter(env.stdout)
	defer func() {
		if flushErr := out.Flush(); err == nil {
			err = failed(flushErr)
		}
	}()
	show := func(l line) error {
		if l.Found == nil {
			h.end(env, l)
			return nil
		}
		if err := h.show(out, l); err != nil {
			return err
		}
		if h.follow {
			return out.Flush()
		}
		return nil
	}
	if h.local {
		return failed(h.readLocal(ctx, env, since, match, show))
	}
	c, err := openClient(env, h.client)
	if err != nil {
		return err
	}
	return c.lines(ctx, h.query(where), detections, show)
}

func (h *huntFlags) query(where string) url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"where": where, "since": h.since, "agent": h.agent} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if h.limit > 0 {
		q.Set("limit", strconv.Itoa(h.limit))
	}
	if h.follow {
		q.Set("follow", "true")
	}
	return q
}

func (h *huntFlags) readLocal(ctx context.Context, env *environment, since time.Time, match func(event.Event) (api.Found, bool), show func(line) error) error {
	data, err := env.dataDir()
	if err != nil {
		return err
	}
	folder := agent.Journal(data)
	if _, err := os.Stat(folder); err != nil {
		return fmt.Errorf("events of this host: %w: name the agent's data folder with --data, as root", err)
	}
	read, found := journal.Read, 0
	if h.follow {
		read = journal.Follow
	}
	seen, err := read(ctx, folder, since, func(ev event.Event) error {
		f, ok := match(ev)
		if !ok {
			return nil
		}
		if err := show(line{Host: ev.Host, Found: &f}); err != nil {
			return err
		}
		if found++; found == h.limit {
			return journal.ErrStop
		}
		return nil
	})
	if err != nil {
		return err
	}
	return show(line{Host: "this host", Seen: (*api.Seen)(&seen)})
}

// end says what an answer rests on, on standard error.
func (h *huntFlags) end(env *environment, l line) {
	host := report.Printable(cmp.Or(l.Host, l.Agent))
	if l.Error != "" {
		fmt.Fprintf(env.stderr, "%s: its events are not all among these: %s\n", host, report.Printable(l.Error))
	}
	if s := l.Seen; s != nil && (s.Events > 0 || l.Error == "") {
		fmt.Fprintf(env.stderr, "%s: %d events read", host, s.Events)
		if !s.Oldest.IsZero() {
			fmt.Fprintf(env.stderr, ", the oldest of %s", s.Oldest.UTC().Format(time.RFC3339))
		}
		if s.Missing > 0 {
			fmt.Fprintf(env.stderr, "; %d more came too fast and were not kept", s.Missing)
		}
		if s.Damaged > 0 {
			fmt.Fprintf(env.stderr, "; %d lines are damaged", s.Damaged)
		}
		fmt.Fprintln(env.stderr, ".")
	}
}

func (h *huntFlags) show(w io.Writer, l line) error {
	if h.format == "json" {
		raw, err := json.Marshal(struct {
			Host  string      `json:"host,omitempty"`
			Event event.Event `json:"event"`
			Fired []string    `json:"fired,omitempty"`
		}{l.Host, l.Event, l.Fired})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", raw)
		return err
	}
	ev := l.Event
	where := cmp.Or(l.Host, ev.Host)
	if c := ev.Container; c != nil {
		where = cmp.Or(c.Name, c.ID[:min(12, len(c.ID))]) + "@" + where
	}
	text := fmt.Sprintf("%s  %-9s %-24s %s", ev.Time.UTC().Format("2006-01-02T15:04:05.000Z"), ev.Kind, where, describeEvent(ev))
	if len(l.Fired) > 0 {
		text = strings.Join(l.Fired, ",") + "  " + text
	}
	_, err := fmt.Fprintln(w, report.Printable(text))
	return err
}

// describeEvent is an event in a few words.
func describeEvent(ev event.Event) string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if p := ev.Process; p != nil {
		add("%d %s", p.PID, cmp.Or(p.Path, p.Comm))
	}
	if x := ev.Exec; x != nil {
		add("runs %s", x.Path)
		if x.Script != "" {
			add("for %s", x.Script)
		}
		if p := ev.Process; p != nil && len(p.Args) > 0 {
			add("as %q", strings.Join(p.Args, " "))
		}
	}
	if f := ev.File; f != nil {
		add("opens %s", f.Path)
		if f.Write {
			add("to write")
		}
	}
	if n := ev.Network; n != nil {
		add("%s %s", cmp.Or(n.Transport, n.Family), cmp.Or(n.Path, n.Address+" port "+strconv.Itoa(n.Port)))
	}
	if d := ev.DNS; d != nil {
		add("asks for %s %s", d.Type, d.Name)
	}
	if p := ev.Privilege; p != nil {
		add("%s %s%s", cmp.Or(p.Call, "asks for"), p.Capability, p.Device)
	}
	if x := ev.Exit; x != nil {
		add("ends with code %d", x.Code)
		if x.Signal != 0 {
			add("by signal %d", x.Signal)
		}
	}
	if n := ev.Notice; n != nil {
		add("%s", cmp.Or(n.Message, n.Code))
	}
	if d := ev.Decision; d != nil && d.Outcome != "" {
		add("(%s: %s)", d.Control, d.Outcome)
	}
	return strings.Join(words, " ")
}

// lines reads an answer of lines of JSON while it comes.
func (c *client) lines(ctx context.Context, query url.Values, body []byte, do func(line) error) error {
	base := *c.base
	base.RawQuery = query.Encode()
	method := http.MethodGet
	if len(body) > 0 {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, base.JoinPath("/api/v1/hunt").String(), bytes.NewReader(body))
	if err != nil {
		return failed(err)
	}
	req.Header.Set("Content-Type", "application/yaml")
	req.Header.Set("Authorization", "Bearer "+c.token)
	endless := *c.http
	endless.Timeout = 0 // it comes as long as it is asked for
	res, err := endless.Do(req)
	if err != nil {
		return kept(unreachable(err))
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusBadRequest {
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer)) // its status says enough
		return kept(c.refusal(res.StatusCode, text))
	}
	answers, wrong := 0, 0
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(make([]byte, 64<<10), 8<<20)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue // a sign of life
		}
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return failed(fmt.Errorf("server %s: its answer cannot be read: %w", c.base, err))
		}
		if l.Found == nil {
			answers++
			if l.Error != "" {
				wrong++
			}
		}
		if err := do(l); err != nil {
			return failed(err)
		}
	}
	switch err := lines.Err(); {
	case ctx.Err() != nil:
		return nil // whoever asked had enough
	case err != nil:
		return kept(unreachable(err))
	case answers > 0 && wrong == answers:
		return failed(errors.New("no agent answered"))
	}
	return nil
}
