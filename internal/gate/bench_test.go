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
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// BenchmarkDecision measures what the gate adds to a create whose verdict is
// known, as the engine sees it: over the plugin's socket, through supervisor
// and worker, with the questions that the worker asks a real engine. The scan
// of the image knows 500 vulnerabilities. Beside the mean it reports p50 and p99.
func BenchmarkDecision(b *testing.B) {
	l := newLab(b, strictPolicy)
	l.startAgent(nil)
	l.setReport(l.digest(l.busybox), slices.Repeat([]event.Severity{event.SeverityLow}, 500)...)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", l.plugin)
	}}}
	body := fmt.Appendf(nil, `{"Image":%q,"HostConfig":{"Memory":67108864,"PidsLimit":64,"SecurityOpt":["no-new-privileges"],"ReadonlyRootfs":true,"Binds":["/srv:/srv"]}}`, l.busybox)
	request := fmt.Appendf(nil, `{"RequestMethod":"POST","RequestUri":"/v1.41/containers/create?name=x","RequestBody":%q}`, base64.StdEncoding.EncodeToString(body))
	var times []time.Duration
	ask := func() {
		start := time.Now()
		r, err := client.Post("http://gate/AuthZPlugin.AuthZReq", "application/json", bytes.NewReader(request))
		if err != nil {
			b.Fatal(err)
		}
		said, err := io.ReadAll(r.Body)
		r.Body.Close()
		times = append(times, time.Since(start))
		if err != nil || !bytes.Contains(said, []byte(`"Allow":true`)) {
			b.Fatalf("%v: %s", err, said)
		}
	}
	ask() // the verdict becomes known
	times = times[:0]
	for b.Loop() {
		ask()
	}
	reportTimes(b, "", times)

	// For comparison, on the same machine in the same minute: the one question
	// that the gate cannot spare, asked of the engine without a gate's judgement.
	times = times[:0]
	engine := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", l.engine.Socket)
	}}}
	for range min(b.N, 2000) {
		start := time.Now()
		r, err := engine.Get("http://docker/images/" + l.busybox + "/json")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			b.Fatal(err)
		}
		r.Body.Close()
		times = append(times, time.Since(start))
	}
	reportTimes(b, "inspect-", times)
}

func reportTimes(b *testing.B, what string, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, what+"p50-ms")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, what+"p99-ms")
}
