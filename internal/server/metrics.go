package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakwater-sec/breakwater/internal/store"
)

// metrics are the server's numbers for Prometheus.
type metrics struct {
	records  *prometheus.CounterVec
	failed   prometheus.Counter
	requests *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "breakwater_server_records_total",
			Help: "Records of agents by what became of them: incident, event, image (new ones), known (came again), rejected (unreadable, kept)."}, []string{"result"}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "breakwater_server_ingest_failures_total",
			Help: "Batches that could not be stored; their agents keep them."}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "breakwater_server_request_seconds",
			Help: "Time to answer HTTP requests, by first word of the path.", Buckets: []float64{.005, .02, .05, .1, .2, .5, 1, 5}}, []string{"section", "status"}),
	}
	r.MustRegister(m.records, m.failed, m.requests)
	return m
}

func (m *metrics) ingested(got store.Ingested) {
	m.records.WithLabelValues("incident").Add(float64(len(got.Incidents)))
	m.records.WithLabelValues("event").Add(float64(got.Events))
	m.records.WithLabelValues("image").Add(float64(len(got.Images)))
	m.records.WithLabelValues("known").Add(float64(got.Known))
	m.records.WithLabelValues("rejected").Add(float64(got.Rejected))
}

func (m *metrics) request(r *http.Request, status int, took time.Duration) {
	if r.URL.Path == streamPath {
		return // a stream's length says nothing
	}
	if status == 0 {
		status = http.StatusOK
	}
	m.requests.WithLabelValues(section(r.URL.Path), strconv.Itoa(status)).Observe(took.Seconds())
}
