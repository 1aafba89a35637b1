package bus

import (
	"encoding/json"
	"testing"

	"github.com/breakwater-sec/breakwater/api"
)

// FuzzBatch: what is accepted is whole, and can be sent on as it was read.
func FuzzBatch(f *testing.F) {
	f.Add([]byte(`{"v":1,"agent":"a1","epoch":"e","records":[{"seq":1,"kind":"incident","key":"k","time":"2026-01-01T00:00:00Z","body":{"x":"<&>"}}]}`))
	f.Add([]byte(`{"v":1,"agent":"a1","epoch":"e","records":[{"seq":18446744073709551615,"kind":"event","key":"k","body":null},null]}`))
	f.Add([]byte(`{"v":1,"agent":"a2"}`))
	f.Add([]byte(`[[[[[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decodeBatch("a1", data)
		if err != nil {
			return
		}
		again, err := encodeBatch(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeBatch("a1", again); err != nil {
			t.Fatalf("accepted %s, sent on %s: %v", data, again, err)
		}
		last := b.Records[len(b.Records)-1]
		if b.Agent != "a1" || last.Sequence == 0 || !json.Valid(last.Body) || last.Key == "" || last.Kind == api.RecordKind("") {
			t.Fatalf("accepted %+v", b)
		}
	})
}
