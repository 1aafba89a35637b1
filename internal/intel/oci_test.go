package intel

import (
	"net/http"
	"strings"
	"testing"
)

// passed is a transport that notes what reaches it.
type passed struct{ hosts []string }

func (p *passed) RoundTrip(r *http.Request) (*http.Response, error) {
	p.hosts = append(p.hosts, r.URL.Host)
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

// TestPlainHTTPStaysHere: no credentials and no bundle over a wire that anybody
// can read, private address or not.
func TestPlainHTTPStaysHere(t *testing.T) {
	var next passed
	for address, safe := range map[string]bool{
		"https://registry.example/v2/": true, "http://127.0.0.1:5000/v2/": true, "http://localhost:5000/v2/": true, "http://[::1]:5000/v2/": true,
		"http://registry.example/v2/": false, "http://192.168.1.1/v2/": false, "http://10.0.0.1:5000/v2/": false, "http://localhost.example/v2/": false,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		before := len(next.hosts)
		response, err := onlySafe{&next}.RoundTrip(request)
		if err == nil {
			_ = response.Body.Close() // there is none
		}
		if (err == nil) != safe || (len(next.hosts) > before) != safe || err != nil && !strings.Contains(err.Error(), "use https") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
