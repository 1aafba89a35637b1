package server_test

import (
	"encoding/json"
	"testing"

	"github.com/breakwater-sec/breakwater/api"
)

// TestStage: an administrator labels a host; its bundle carries the label under
// a new generation, the others' too, for agents take only newer ones.
func TestStage(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	agent := harbour(t, s.Server)
	c := admin(t, s)
	bundle := func() (b api.PolicyBundle) {
		signed, err := s.PolicyFor(t.Context(), agent)
		if err == nil {
			err = json.Unmarshal(signed.Payload, &b)
		}
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	set := func(agent, stage string) int {
		status, _ := c.call("PUT", "/api/v1/agents/"+agent+"/stage", `{"stage":"`+stage+`"}`, nil, "Content-Type", "application/json")
		return status
	}
	before := bundle()
	if before.Stage != "" {
		t.Fatalf("stage %q from nowhere", before.Stage)
	}
	for _, bad := range []struct {
		agent, stage string
		want         int
	}{{agent, "Production", 400}, {agent, "prod", 400}, {"a0", "production", 404}} {
		if status := set(bad.agent, bad.stage); status != bad.want || bundle().Generation != before.Generation {
			t.Errorf("%+v: %d", bad, status)
		}
	}
	if status := set(agent, "staging"); status != 200 {
		t.Fatal(status)
	}
	after := bundle()
	if after.Stage != "staging" || after.Generation != before.Generation+1 {
		t.Errorf("%q, generation %d after %d", after.Stage, after.Generation, before.Generation)
	}
	if status := set(agent, "staging"); status != 200 || bundle().Generation != after.Generation {
		t.Errorf("the stage that it has already: %d, generation %d", status, bundle().Generation)
	}
	if status := set(agent, ""); status != 200 || bundle().Stage != "" {
		t.Errorf("%d, %q", status, bundle().Stage)
	}
	var log struct {
		Items []struct{ Action, Detail string }
	}
	c.call("GET", "/api/v1/audit?object="+agent, "", &log)
	n := 0
	for _, line := range log.Items {
		if line.Action == "agent.stage" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d changes in the audit log: %+v", n, log.Items)
	}
}
