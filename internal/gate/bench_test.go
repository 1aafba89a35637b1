package gate_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// BenchmarkDecision measures what the gate adds to a create and to a start
// whose verdict is known, as the engine sees it: over the plugin's socket,
// through supervisor and worker, with the questions that the worker asks a real
// engine. The scan of the image knows 500 vulnerabilities. Beside the mean it
// reports p50 and p99. The row inspect is for comparison: the question that a
// start cannot spare, asked of the same engine in the same minute.
func BenchmarkDecision(b *testing.B) {
	l := newLab(b, strictPolicy)
	l.startAgent(nil).forgetful = true
	l.setReport(l.digest(l.busybox), slices.Repeat([]event.Severity{event.SeverityLow}, 500)...)
	id := l.engine.MustRun(b, append(append([]string{"create", "-v", "/srv:/srv"}, limits...), l.busybox, "true")...)
	body := fmt.Appendf(nil, `{"Image":%q,"HostConfig":{"Memory":67108864,"PidsLimit":64,"SecurityOpt":["no-new-privileges"],"ReadonlyRootfs":true,"Binds":["/srv:/srv"]}}`, l.busybox)
	gate, engine := unixClient(l.plugin), unixClient(l.engine.Socket)
	ask := func(request string) func() {
		return func() {
			said := exchange(b, gate, http.MethodPost, "http://gate/AuthZPlugin.AuthZReq", request)
			if !bytes.Contains(said, []byte(`"Allow":true`)) {
				b.Fatalf("%s", said)
			}
		}
	}
	measure(b, "create", ask(fmt.Sprintf(`{"RequestMethod":"POST","RequestUri":"/v1.41/containers/create?name=x","RequestBody":%q}`, base64.StdEncoding.EncodeToString(body))))
	measure(b, "start", ask(fmt.Sprintf(`{"RequestMethod":"POST","RequestUri":"/v1.41/containers/%s/start"}`, id)))
	measure(b, "inspect", func() { exchange(b, engine, http.MethodGet, "http://docker/containers/"+id+"/json", "") })
}

func unixClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
}

func exchange(b testing.TB, client *http.Client, method, target, body string) []byte {
	q, err := http.NewRequestWithContext(b.Context(), method, target, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r, err := client.Do(q)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Body.Close()
	said, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		b.Fatalf("%s: %v %s", r.Status, err, said)
	}
	return said
}

func measure(b *testing.B, name string, act func()) {
	b.Run(name, func(b *testing.B) {
		act() // the verdict becomes known
		var times []time.Duration
		for b.Loop() {
			start := time.Now()
			act()
			times = append(times, time.Since(start))
		}
		reportTimes(b, times)
	})
}

func reportTimes(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
}
