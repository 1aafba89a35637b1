// Command demo tells Breakwater's story in one terminal, for real: a vulnerable
// image is refused, its fix is allowed, and what attackers then try inside the
// container is stopped. Every line is checked by a witness that Breakwater does
// not control (a file that is absent, a listener that heard nothing, an exit
// status), and the table at the end is read back through the API.
//
// It runs an engine of its own and leaves nothing behind. With
// --enforcement=off the same attacks succeed and the demo fails, which shows
// that its witnesses can see harm.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/testenv/stage"
)

func main() {
	enforcement := flag.String("enforcement", "on", "on, or off: only record; the demo then fails")
	binary := flag.String("breakwater", "bin/breakwater", "the binary to show")
	keep := flag.Bool("keep", false, "at the end, keep the console up until Ctrl-C")
	flag.Parse()
	if *enforcement != "on" && *enforcement != "off" {
		fmt.Fprintf(os.Stderr, "demo: --enforcement=%s: want on or off\n", *enforcement)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failed, err := run(ctx, *binary, *enforcement == "off", *keep)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(3)
	case failed > 0:
		fmt.Printf("\n%d of the demo's claims did not hold.\n", failed)
		os.Exit(1)
	}
	fmt.Println("\nEvery claim held.")
}

// story is the demo while it runs.
type story struct {
	*stage.Stage
	console                    *stage.Console
	pid                        int    // of the service's first process
	last                       uint64 // the newest incident seen
	shellListener, outListener *stage.Listener
	rows                       []row
	failed                     int
}

// row is one line of the table at the end.
type row struct {
	act, witness string
	harmless     bool
	incident     stage.Incident
	missing      string // why there is no incident
}

func run(ctx context.Context, binary string, observe, keep bool) (failed int, err error) {
	if os.Geteuid() != 0 {
		return 0, fmt.Errorf("the demo starts an engine and loads eBPF programs: run 'sudo make demo'")
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return 0, err
	}
	say("An engine of its own, and Breakwater in front of it.")
	set, err := stage.New(ctx, "demo", binary)
	if err != nil {
		return 0, err
	}
	defer set.Close()
	if _, err := set.Program(ctx, "attack", "./attack/villain"); err != nil {
		return 0, err
	}
	mirror, err := filepath.Abs("internal/intel/testdata/mirror")
	if err != nil {
		return 0, err
	}
	console, password, err := set.Guard(ctx, stage.Settings{Observe: observe, Gate: !observe, Intel: mirror})
	if err != nil {
		return 0, err
	}
	s, address := &story{Stage: set, console: console}, console.URL
	source, err := os.ReadFile("demo/policy.yaml")
	if err != nil {
		return 0, err
	}
	if err := s.console.Apply(ctx, source); err != nil {
		return 0, err
	}
	note("console: %s, policy in force: demo/policy.yaml", address)
	if err := s.tell(ctx); err != nil {
		return s.failed, err
	}
	s.table(address)
	if !keep {
		fmt.Println()
		note("The console and its incidents are gone with the demo. To look at them: make demo DEMO_ARGS=--keep")
		return s.failed, nil
	}
	fmt.Printf("\nThe console stays up at %s until Ctrl-C: log in as admin with %s\n(its certificate was made a minute ago, so the browser warns).\n", address, password)
	<-ctx.Done()
	return s.failed, nil
}

func (s *story) tell(ctx context.Context) error {
	say("A developer builds an image with an old lodash and starts it.")
	if err := s.buildImage(ctx, "shop:1", lodashOld); err != nil {
		return err
	}
	s.refusal(ctx)
	say("The same with privileges it does not need.")
	s.privileged(ctx)
	say("The fix that the refusal named: lodash %s.", lodashFixed)
	if err := s.buildImage(ctx, "shop:2", lodashFixed); err != nil {
		return err
	}
	if err := s.startService(ctx); err != nil {
		return err
	}
	say("The service runs. Now somebody is inside.")
	for _, attack := range s.attacks() {
		if err := s.attack(ctx, attack); err != nil {
			return err
		}
	}
	say("An administrator let one container have CAP_SYS_ADMIN. Escaping is stopped whatever policy says.")
	if err := s.startMaintenance(ctx); err != nil {
		return err
	}
	return s.attack(ctx, s.escape())
}

// lodash is an old version with known vulnerabilities, and the one that fixes
// them: GHSA-jf85-cpcp-j695, GHSA-35jh-r3h4-6jhm.
const (
	lodashOld   = "4.17.10"
	lodashFixed = "4.17.21"
)

// buildImage builds the demo's service with one version of lodash in it.
func (s *story) buildImage(ctx context.Context, name, lodash string) error {
	attack, err := os.ReadFile(filepath.Join(s.Dir, "attack"))
	if err != nil {
		return err
	}
	manifest := fmt.Sprintf(`{"name": "lodash", "version": %q, "license": "MIT"}`, lodash)
	return s.Build(ctx, name,
		"FROM bw-busybox\nCOPY attack /usr/bin/attack\nCOPY package.json /app/node_modules/lodash/package.json\nUSER 10001\nCMD [\"attack\", \"wait\"]\n",
		map[string][]byte{"package.json": []byte(manifest), "attack": attack})
}

// limits are what the demo's policy requires of a start.
var limits = []string{"--network=none", "--memory=256m", "--pids-limit=100"}

func (s *story) refusal(ctx context.Context) {
	out, err := s.Engine(ctx, append(append([]string{"run", "-d", "--name=shop"}, limits...), "shop:1")...)
	s.show(out)
	names, listErr := s.Engine(ctx, "ps", "-aq", "--filter=name=^shop$")
	harmless := err != nil && listErr == nil && strings.TrimSpace(names) == ""
	s.finish(ctx, row{act: "start a vulnerable image", witness: "docker's exit status and its containers", harmless: harmless},
		control(event.ControlStart))
	_, _ = s.Engine(ctx, "rm", "-f", "shop") // only there when it was let through
}

func (s *story) privileged(ctx context.Context) {
	out, err := s.Engine(ctx, append(append([]string{"run", "-d", "--name=shop-root", "--privileged", "-v", "/etc:/host"}, limits...), "bw-busybox", "sleep", "60")...)
	s.show(out)
	names, listErr := s.Engine(ctx, "ps", "-aq", "--filter=name=^shop-root$")
	s.finish(ctx, row{act: "start it privileged, with the host's /etc", witness: "docker's exit status and its containers",
		harmless: err != nil && listErr == nil && strings.TrimSpace(names) == ""},
		control(event.ControlStart))
	_, _ = s.Engine(ctx, "rm", "-f", "shop-root") // only there when it was let through
}

func (s *story) startService(ctx context.Context) error {
	args := append([]string{"run", "-d", "--name=shop", "-v", s.Witness + ":/witness"}, limits...)
	// Root inside, so that file permissions are not what stops an attack.
	if _, err := s.Engine(ctx, append(args, "--user=0", "shop:2")...); err != nil {
		return fmt.Errorf("the fixed image must be allowed: %w", err)
	}
	pid, err := s.PID(ctx, "shop")
	if err != nil {
		return err
	}
	s.pid = pid
	note("allowed, and running")
	return s.network(ctx)
}

// startMaintenance starts a container that an exception lets have the
// capability with which an escape by release_agent works.
func (s *story) startMaintenance(ctx context.Context) error {
	if err := s.console.Except(ctx, "baseline-host", `container.name == "maintenance" && rule == "start.dangerous-capabilities"`, "Unmounts stale volumes at night"); err != nil {
		return err
	}
	args := append([]string{"run", "-d", "--name=maintenance", "--user=0", "--cap-add=SYS_ADMIN", "-v", s.Cgroups + ":/cgroups"}, limits...)
	if _, err := s.Engine(ctx, append(args, "shop:2")...); err != nil {
		return fmt.Errorf("the exception must hold: %w", err)
	}
	return nil
}

// attack is one thing an intruder tries.
type attack struct {
	container    string // "" means shop
	act, witness string
	args         []string // of attack/villain
	harmed       func() bool
	fits         func(stage.Incident) bool
}

func (s *story) attack(ctx context.Context, a attack) error {
	container := a.container
	if container == "" {
		container = "shop"
	}
	args := append([]string{"exec", container, "attack"}, a.args...)
	out, err := s.Docker.Command(ctx, args...).CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ending := "ended well"
	if err != nil {
		ending = err.Error()
	}
	note("attack %s: %s %s", strings.Join(a.args, " "), ending, strings.TrimSpace(string(out)))
	s.finish(ctx, row{act: a.act, witness: a.witness, harmless: !a.harmed()}, a.fits)
	return nil
}

// finish finds the incident that Breakwater made of an act, and says at once
// when a claim does not hold.
func (s *story) finish(ctx context.Context, r row, fits func(stage.Incident) bool) {
	incident, err := s.console.Await(ctx, s.last, fits)
	if err != nil {
		r.missing = err.Error()
	}
	r.incident, s.last = incident, max(s.last, incident.ID)
	if !r.harmless {
		note("HARM DONE (witness: %s)", r.witness)
	}
	if !r.harmless || r.missing != "" || incident.Decision.Outcome == event.Detected {
		s.failed++
	}
	s.rows = append(s.rows, r)
}

// table prints what was read back of each incident: what was done is the
// API's word, the harm is the witness's.
func (s *story) table(address string) {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT WAS TRIED\tOUTCOME\tHARM\tWITNESS\tINCIDENT")
	for _, r := range s.rows {
		outcome, where, harm := string(r.incident.Decision.Outcome), fmt.Sprintf("%s/incidents/%d", address, r.incident.ID), "none"
		if r.missing != "" {
			outcome, where = "no incident", "-"
		}
		if !r.harmless {
			harm = "DONE"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.act, outcome, harm, r.witness, where)
	}
	_ = w.Flush() // standard output is gone: nobody to tell
	fmt.Println("\nWhat the incidents say:")
	for _, r := range s.rows {
		if r.missing == "" {
			fmt.Printf("%4d  %s\n      %s\n", r.incident.ID, strings.ReplaceAll(r.incident.Sentence, "`", ""), decided(r.incident))
		}
	}
}

// decided says what decided, in one line.
func decided(i stage.Incident) string {
	d := i.Decision
	if d.Policy == "" {
		return "always on: " + d.Rule
	}
	return "policy " + d.Policy + ": " + d.Rule
}

// show prints what the engine answered, indented.
func (s *story) show(out string) {
	for line := range strings.Lines(strings.TrimSpace(out)) {
		if text := strings.TrimRight(line, "\n"); text != "" && !strings.HasPrefix(text, "Run 'docker run --help'") {
			fmt.Println("   |", text)
		}
	}
}

var began = time.Now()

func say(format string, args ...any) {
	fmt.Printf("\n[%3.0f s] %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
}

func note(format string, args ...any) { fmt.Printf("   %s\n", fmt.Sprintf(format, args...)) }
