package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
)

// TestIndicatorsOfABundle: a peer that a bundle lists is told once, in alert.
func TestIndicatorsOfABundle(t *testing.T) {
	data, list := t.TempDir(), filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(list, []byte("192.0.2.7\n198.51.100.0/24\n2001:db8::/64\nevil.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := intel.Import(t.Context(), intel.ImportOptions{Data: data, From: list, Name: "ours", Program: "test"}); err != nil {
		t.Fatal(err)
	}
	b, err := intel.Open(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var x indicators
	if err := x.load(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{"192.0.2.7": true, "::ffff:192.0.2.7": true, "192.0.2.8": false, "198.51.100.200": true, "198.51.101.1": false, "2001:db8::9": true, "2001:db8:1::9": false, "": false, "evil": false} {
		ev := event.Event{Key: address, Kind: event.KindConnect, Time: time.Now(), Container: &event.Container{ID: "c"}, Network: &event.Network{Address: address, Port: 443}}
		inc, ok := x.contact(ev)
		if ok != want || ok && (inc.Decision.Effect != event.EffectAlert || inc.Decision.Outcome != event.Detected || inc.Sentence == "") {
			t.Errorf("%s: %v %+v", address, ok, inc)
		}
		if _, again := x.contact(ev); again {
			t.Errorf("%s was told twice", address)
		}
	}
}
