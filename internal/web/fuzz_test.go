package web_test

import (
	"net/url"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/web"
)

// FuzzIncidentFilter: any query is a filter that the database understands, or a
// clear error.
func FuzzIncidentFilter(f *testing.F) {
	for _, q := range []string{"", "severity=high&since=7d", "since=-1h", "before=99999999999999999999", "text=%25_%5C%00", "container=%ff%fe0123456789", "since=4095d", "after=9223372036854775807"} {
		f.Add(q)
	}
	s := open(f)
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			t.Skip()
		}
		filter, err := web.IncidentFilter(q, now())
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a word")
			}
			return
		}
		if _, err := s.store.Incidents(t.Context(), filter); err != nil {
			t.Error(err)
		}
	})
}
