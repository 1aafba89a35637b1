package agent_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/agent"
	"github.com/breakwater-sec/breakwater/internal/enforce"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

const driftPolicy = `apiVersion: breakwater/v1
kind: Policy
metadata: {name: p}
scope: "!container.build"
run:
  exec: {drift: kill}
`

const noPrivileged = `apiVersion: breakwater/v1
kind: Policy
metadata: {name: p}
start:
  privileged: deny
`

var (
	idA = strings.Repeat("a", 64)
	idB = strings.Repeat("b", 64)
)

func (s *site) generation() uint64 { return s.agent.Status().Generation }

func (s *site) problems() string { return strings.Join(s.agent.Status().Problems, "\n") }

// TestPolicyBundles: only a bundle that was signed for this agent, is newer and
// not expired comes into force; anything else leaves the last good one.
func TestPolicyBundles(t *testing.T) {
	s := newSite(t)
	s.uplink.signed = s.sign(s.bundle(5, driftPolicy))
	s.start()
	if s.generation() != 5 || s.kernel.standard().Generation != 5 {
		t.Fatalf("generation %d, in the kernel %d: %s", s.generation(), s.kernel.standard().Generation, s.problems())
	}
	onDisk := func() string {
		raw, err := os.ReadFile(filepath.Join(s.dir, api.FilePolicy))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	good := onDisk()
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := s.sign(s.bundle(6, driftPolicy))
	forged.Signature = ed25519.Sign(stranger, append([]byte(api.PolicySignatureContext), forged.Payload...))
	otherUse := s.sign(s.bundle(6, driftPolicy))
	otherUse.Signature = ed25519.Sign(s.key, otherUse.Payload)
	change := func(f func(*api.PolicyBundle)) api.Signed {
		b := s.bundle(6, driftPolicy)
		f(&b)
		return s.sign(b)
	}
	malformed := api.Signed{Payload: []byte("{"), Signature: ed25519.Sign(s.key, []byte(api.PolicySignatureContext+"{"))}
	for _, c := range []struct {
		name   string
		signed api.Signed
	}{
		{"forged", forged},
		{"signed for another use", otherUse},
		{"empty", api.Signed{}},
		{"for another agent", change(func(b *api.PolicyBundle) { b.Target = "a2" })},
		{"replayed", change(func(b *api.PolicyBundle) { b.Generation = 4 })},
		{"the same again", change(func(b *api.PolicyBundle) { b.Generation, b.Policies = 5, nil })},
		{"expired", change(func(b *api.PolicyBundle) { b.Expires = time.Now().Add(-time.Minute) })},
		{"another version", change(func(b *api.PolicyBundle) { b.Version = 99 })},
		{"malformed", malformed},
		{"malformed policy", change(func(b *api.PolicyBundle) { b.Policies[0].Source = "kind: Polizei" })},
	} {
		s.offer(c.signed)
		if s.generation() != 5 || s.kernel.standard().Generation != 5 || !s.kernel.standard().Drift.On {
			t.Errorf("%s: generation %d is in force", c.name, s.generation())
		}
		if onDisk() != good {
			t.Errorf("%s: the last good bundle is gone from the disk", c.name)
		}
	}
	s.offer(s.sign(s.bundle(7, "")))
	if s.generation() != 7 || s.kernel.standard().Drift.On {
		t.Errorf("generation %d, in the kernel %+v", s.generation(), s.kernel.standard())
	}
	s.stop()

	// Without a server the last good one is in force from the first moment on.
	s.opts.Uplink = nil
	s.start()
	if s.generation() != 7 {
		t.Errorf("after a restart without a server: generation %d: %s", s.generation(), s.problems())
	}
	s.stop()
	s.write(api.FilePolicy, []byte(good[:len(good)/2]))
	s.start()
	if s.generation() != 0 || !strings.Contains(s.problems(), api.FilePolicy) {
		t.Errorf("with a torn file: generation %d: %s", s.generation(), s.problems())
	}
	s.stop()
	s.write(api.FilePolicy, []byte(good))
	s.write(api.FilePolicyKey, []byte("nonsense"))
	s.start()
	if !strings.Contains(s.problems(), "enrol the agent") {
		t.Errorf("with a damaged key: %s", s.problems())
	}
}

// TestBundlesAreRenewed: policy that does not change for long does not expire.
func TestBundlesAreRenewed(t *testing.T) {
	s := newSite(t)
	old := s.bundle(5, driftPolicy)
	old.Issued, old.Expires = time.Now().UTC().Add(-6*time.Hour), time.Now().UTC().Add(time.Hour)
	s.uplink.signed = s.sign(old)
	s.start()
	s.stop()
	expires := func() time.Time {
		raw, err := os.ReadFile(filepath.Join(s.dir, api.FilePolicy))
		if err != nil {
			t.Fatal(err)
		}
		var signed api.Signed
		var bundle api.PolicyBundle
		if err := errors.Join(json.Unmarshal(raw, &signed), json.Unmarshal(signed.Payload, &bundle)); err != nil {
			t.Fatal(err)
		}
		return bundle.Expires
	}
	s.uplink.signed = s.sign(s.bundle(5, driftPolicy))
	s.start()
	s.until("the bundle is renewed", func() bool { return !expires().Equal(old.Expires) })
	renewed := expires()
	later := s.bundle(5, driftPolicy)
	later.Expires = later.Expires.Add(time.Hour)
	s.offer(s.sign(later))
	if !expires().Equal(renewed) {
		t.Error("a bundle is written again although the one in force is fresh")
	}
}

// TestWrongBundlesAreTold: each refusal is a standing problem in words.
func TestWrongBundlesAreTold(t *testing.T) {
	s := newSite(t)
	b := s.bundle(1, driftPolicy)
	b.Target = "a2"
	s.uplink.signed = s.sign(b)
	s.start()
	s.until("the refusal is told", func() bool { return strings.Contains(s.problems(), `made for agent "a2", this is "a1"`) })
	s.offer(s.sign(s.bundle(1, driftPolicy)))
	s.until("the problem is gone", func() bool { return s.problems() == "" })
}

// TestContainers follows containers from their announcement to their end.
func TestContainers(t *testing.T) {
	s := newSite(t)
	s.uplink.signed = s.sign(s.bundle(3, driftPolicy))
	s.start()
	s.until("the agent knows what runs", s.engine.wasAsked)
	s.engine.add(idA, "web", nil)
	// The engine's word comes before the cgroup: the policy is there first.
	s.engine.events <- `{"Type": "container", "Action": "create", "Actor": {"ID": "` + idA + `"}, "time": 1, "timeNano": 1}`
	s.until("the policy is in the kernel", func() bool { run, ok := s.kernel.run(idA); return ok && run.Drift.On && run.Generation == 3 })
	if s.guarded(idA) != nil {
		t.Error("a container that does not run is shown")
	}
	s.appear(idA)
	s.until("it is judged", func() bool { g := s.guarded(idA); return g != nil && g.Verdict != nil })
	if g := s.guarded(idA); g.Container.Name != "web" || g.Container.Image.Name() != "demo:1" || g.Mode != "enforce" || !slices.Contains(g.Policies, "p") {
		t.Errorf("%+v", g)
	}
	// A build step has a scope of its own, but not when the gate saw its start.
	s.engine.add(idB, "step", map[string]any{"LogConfig": map[string]any{"Type": "none"}, "RestartPolicy": map[string]any{"Name": ""}})
	s.appear(idB)
	s.until("the build step is known", func() bool { g := s.guarded(idB); return g != nil && g.Container.Build })
	if run, _ := s.kernel.run(idB); run.Drift.On || len(run.Policies) != 0 {
		t.Errorf("a build step stands under %+v", run)
	}
	poser := strings.Repeat("c", 64)
	s.engine.add(poser, "poser", map[string]any{"LogConfig": map[string]any{"Type": "none"}, "RestartPolicy": map[string]any{"Name": ""}})
	if status, body := s.desk("/v1/start", `{"container": {"id": "`+poser+`"}}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if run, ok := s.kernel.run(poser); !ok || !run.Drift.On {
		t.Errorf("who starts a container without logs stands under %+v", run)
	}

	s.tell(idA, event.NoticeGone)
	s.until("it is gone", func() bool { return s.guarded(idA) == nil })
	s.engine.events <- `{"Type": "container", "Action": "destroy", "Actor": {"ID": "` + idA + `"}, "time": 1, "timeNano": 1}`
	s.until("it is forgotten", func() bool { _, ok := s.kernel.run(idA); return !ok })

	// A container that no engine knows stands under what applies to all.
	stranger := strings.Repeat("e", 64)
	s.appear(stranger)
	s.until("the stranger is guarded", func() bool { run, ok := s.kernel.run(stranger); return ok && run.Drift.On })
	s.tell(stranger, event.NoticeGone)
	s.until("the stranger is forgotten", func() bool { _, ok := s.kernel.run(stranger); return !ok })
}

// TestForgetsWhatWasRemovedUnseen: the kernel's room for assignments is bounded.
func TestForgetsWhatWasRemovedUnseen(t *testing.T) {
	s := newSite(t)
	stopped, gone, running := idA, idB, strings.Repeat("c", 64)
	s.engine.add(stopped, "stopped", nil)
	for _, id := range []string{stopped, gone, running} {
		s.kernel.assigned[id] = policy.Run{}
	}
	s.kernel.known = []enforce.Guarded{{ID: running}} // of another engine
	s.start()
	s.until("what is gone is forgotten", func() bool { _, ok := s.kernel.run(gone); return !ok })
	for _, id := range []string{stopped, running} {
		if _, ok := s.kernel.run(id); !ok {
			t.Errorf("%.1s was forgotten", id)
		}
	}
}

const stagedPolicy = `apiVersion: breakwater/v1
kind: Policy
metadata: {name: p}
scope: stage == "production"
run:
  exec: {drift: kill}
`

// TestStage: the stage that the server gave a host decides which policies hold
// there, for containers that run too.
func TestStage(t *testing.T) {
	s := newSite(t)
	s.uplink.signed = s.sign(s.bundle(1, stagedPolicy))
	s.start()
	s.engine.add(idA, "web", nil)
	s.appear(idA)
	drift := func() bool { run, _ := s.kernel.run(idA); return run.Drift.On }
	s.until("the container has its policy", func() bool { _, ok := s.kernel.run(idA); return ok })
	if drift() || s.kernel.standard().Drift.On {
		t.Fatal("a policy for production holds on a host without a stage")
	}
	for i, stage := range []string{"production", "staging"} {
		b := s.bundle(uint64(2+i), stagedPolicy)
		b.Stage = stage
		s.offer(s.sign(b))
		want := stage == "production"
		s.until(stage, func() bool { return drift() == want && s.kernel.standard().Drift.On == want })
	}
}

// TestObserve: an agent that only observes puts nothing that stops into the
// kernel, and stops nothing itself.
func TestObserve(t *testing.T) {
	s := newSite(t)
	s.opts.Observe = true
	s.uplink.signed = s.sign(s.bundle(3, driftPolicy+"---\n"+strings.Replace(noPrivileged, "name: p", "name: q", 1)))
	s.engine.add(idA, "web", map[string]any{"Privileged": true})
	s.start()
	s.appear(idA)
	s.until("it is told", func() bool { return len(s.incidents()) == 1 })
	run, _ := s.kernel.run(idA)
	if !run.Observe || !run.Audit || !s.kernel.standard().Observe {
		t.Errorf("in the kernel: %+v", run)
	}
	if inc := s.incidents()[0]; !inc.Decision.Audit || s.engine.wasStopped(idA) {
		t.Errorf("%+v", inc.Decision)
	}
	if g := s.guarded(idA); g.Mode != "audit" {
		t.Errorf("mode %q", g.Mode)
	}
}

// TestStopsWhatNoGateSaw: who may be stopped for being refused by policy.
func TestStopsWhatNoGateSaw(t *testing.T) {
	s := newSite(t)
	s.uplink.signed = s.sign(s.bundle(3, noPrivileged))
	privileged := map[string]any{"Privileged": true}
	adopted, gated, sneaked := idA, idB, strings.Repeat("c", 64)
	for name, id := range map[string]string{"adopted": adopted, "gated": gated, "sneaked": sneaked} {
		s.engine.add(id, name, privileged)
	}
	s.kernel.known = []enforce.Guarded{{ID: adopted}} // an earlier agent had assigned a policy to it
	s.start()
	s.until("what ran before is told", func() bool { return len(s.incidents()) == 1 })
	if inc := s.incidents()[0]; inc.Container.Name != "adopted" || !inc.Decision.Audit {
		t.Errorf("%+v", inc)
	}
	if status, body := s.desk("/v1/start", `{"container": {"id": "`+gated+`"}}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	s.appear(gated)
	s.until("what the gate let through is judged", func() bool { g := s.guarded(gated); return g != nil && g.Verdict != nil })
	s.appear(sneaked)
	s.until("what no gate saw is stopped", func() bool { return s.engine.wasStopped(sneaked) })
	s.until("and told", func() bool { return len(s.incidents()) == 2 })
	if inc := s.incidents()[1]; inc.Container.Name != "sneaked" || inc.Decision.Outcome != event.Killed || len(inc.Responses) != 1 || !inc.Responses[0].Done {
		t.Errorf("%+v", inc)
	}
	if s.engine.wasStopped(adopted) || s.engine.wasStopped(gated) {
		t.Error("a container was stopped that had been there before, or that the gate had let through")
	}
}

// TestKilledBeforeJudging: a container that no agent lived to judge is judged by
// the next one as if it appeared now, though its policy is in the kernel; one
// that was judged, in the same cgroup, was there before.
func TestKilledBeforeJudging(t *testing.T) {
	s := newSite(t)
	privileged := map[string]any{"Privileged": true}
	judged, again, unjudged := idA, idB, strings.Repeat("c", 64)
	s.engine.add(judged, "judged", privileged)
	s.engine.add(again, "again", privileged)
	s.engine.add(unjudged, "unjudged", privileged)
	s.kernel.known = []enforce.Guarded{{ID: judged, CgroupID: 7}, {ID: again, CgroupID: 8}}
	s.start() // without a policy: both are judged and allowed
	for _, id := range []string{judged, again} {
		s.until("it is judged", func() bool { g := s.guarded(id); return g != nil && g.Verdict != nil })
	}
	s.stop()

	s.uplink.signed = s.sign(s.bundle(3, noPrivileged))
	s.kernel.known = []enforce.Guarded{{ID: judged, CgroupID: 7}, {ID: again, CgroupID: 9}, {ID: unjudged, CgroupID: 10}}
	s.start()
	s.until("those that nobody judged are stopped", func() bool { return s.engine.wasStopped(unjudged) && s.engine.wasStopped(again) })
	s.until("all are told", func() bool { return len(s.incidents()) == 3 })
	if s.engine.wasStopped(judged) {
		t.Error("what ran before was stopped")
	}
}

// TestImagesOfEveryEngine: an image is read from the engine that has its container.
func TestImagesOfEveryEngine(t *testing.T) {
	s := newSite(t)
	second := newEngine(t)
	second.hold()
	s.opts.Sockets = append(s.opts.Sockets, second.socket)
	second.add(idA, "web", nil)
	s.start()
	s.appear(idA)
	s.until("the second engine is asked for the image", func() bool { return second.asked() == 1 })
	if s.engine.asked() != 0 {
		t.Error("the first engine was asked for it too")
	}
}

// TestScansHoldNothingUp: incidents are told while images are being scanned.
func TestScansHoldNothingUp(t *testing.T) {
	s := newSite(t)
	s.uplink.signed = s.sign(s.bundle(1, noPrivileged))
	s.engine.hold()
	s.start()
	for i := range 8 { // more than there are workers
		id := strings.Repeat(string("12345678"[i]), 64)
		s.engine.add(id, "slow", nil)
		s.appear(id)
	}
	s.until("images are being scanned", func() bool { return s.engine.asked() > 0 })
	s.sensor.events <- shell("x", nil)
	s.until("the incident is told", func() bool { return len(s.incidents()) == 1 })
}

// TestLossIsTold: what nobody was told of is a standing problem.
func TestLossIsTold(t *testing.T) {
	s := newSite(t)
	s.kernel.lost = 7
	s.start()
	if !strings.Contains(s.problems(), "7 decisions of the kernel were carried out and not told") {
		t.Errorf("problems: %s", s.problems())
	}
}

// TestNewNeedsItsFolder: what cannot work is an error that names the folder.
func TestNewNeedsItsFolder(t *testing.T) {
	s := newSite(t)
	s.start()
	if _, err := agent.New(s.opts); err == nil || !strings.Contains(err.Error(), s.dir) {
		t.Errorf("a second agent in the same folder: %v", err)
	}
}

// What an engine started and the kernel does not tell of is looked for, and named.
func TestStartedButNotSeen(t *testing.T) {
	s := newSite(t)
	s.start()
	started := func(id string) {
		s.engine.events <- `{"Type": "container", "Action": "start", "Actor": {"ID": "` + id + `"}, "time": 1, "timeNano": 1}`
	}
	s.engine.add(idA, "web", nil)
	started(idA)
	s.until("the container that nobody guards is named", func() bool {
		return strings.Contains(s.problems(), idA[:12]) && strings.Contains(s.problems(), "is not guarded")
	})
	s.engine.events <- `{"Type": "container", "Action": "destroy", "Actor": {"ID": "` + idA + `"}, "time": 1, "timeNano": 1}`
	s.until("it is forgotten with the container", func() bool { return !strings.Contains(s.problems(), idA[:12]) })

	s.kernel.mu.Lock()
	s.kernel.overlooked = idB
	s.kernel.mu.Unlock()
	s.engine.add(idB, "db", nil)
	started(idB)
	s.until("the container is taken in", func() bool { return s.guarded(idB) != nil })
	s.until("that is said", func() bool { return strings.Contains(s.problems(), "guarded only since") })
}
